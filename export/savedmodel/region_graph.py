"""Computes the descriptors of the regions of a photo in a TensorFlow graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RegionDescriber:
    """Describes the regions of one photo.

    Attributes:
        describe: function from pixels (1, H, W, 3) to normalised vectors (R, d) float32, as `RegionalPooling.regions`
            computes them, and boxes (R, 4) float32: left, top, right, bottom as fractions of the photo's sides. R is
            the largest number of regions of a photo of any shape. Rows beyond the number of regions of the photo, and
            rows of regions that contain no cell of the feature map, are zero.
        shapes: shapes of the vectors and boxes, (R, d) and (R, 4).
    """

    describe: Callable[[Any], tuple[Any, Any]]
    shapes: list[tuple[int, int]]


def region_describer(model: Any) -> RegionDescriber | None:
    """Makes the describer of a network from `keras_retrieval.build`; None if the network does not pool regions."""
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
        missing = ((0, most - tf.shape(vectors)[0]), (0, 0))
        return tf.pad(vectors, missing), tf.pad(boxes, missing)

    return RegionDescriber(describe, [(most, pooling.output.shape[-1]), (most, 4)])
