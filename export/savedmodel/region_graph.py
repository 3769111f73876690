"""The regions of a network that pools regions, one by one, as operations of a TensorFlow graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Regions:
    """The regions of a network.

    Attributes:
        describe: pixels (1, H, W, 3) -> normalised vectors (R, d) float32 of `RegionalPooling.regions`, and boxes
            (R, 4) float32: left, top, right, bottom as shares of the photo's sides. R is the most regions that a photo
            of any shape has; rows behind its own regions, and those of regions without a cell, are zero.
        shapes: (R, d) and (R, 4).
    """

    describe: Callable[[Any], tuple[Any, Any]]
    shapes: list[tuple[int, int]]


def region_describer(model: Any) -> Regions | None:
    """How the regions of a network from `keras_retrieval.build` are described; None if it pools none."""
    import keras

    from keras_retrieval.layers.regional_pooling import RegionalPooling

    pooling = next((layer for layer in model.layers if isinstance(layer, RegionalPooling)), None)
    if pooling is None:
        return None
    trunk = keras.Model(model.input, pooling.input)
    most = pooling.max_regions

    def describe(pixels: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        vectors, boxes, _ = (part[0] for part in pooling.regions(trunk(pixels, training=False)))
        behind = ((0, most - tf.shape(vectors)[0]), (0, 0))
        return tf.pad(vectors, behind), tf.pad(boxes, behind)

    return Regions(describe, [(most, pooling.output.shape[-1]), (most, 4)])
