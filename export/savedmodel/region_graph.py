"""Computes the descriptors of the regions of a photo (R-MAC) in a TensorFlow graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RegionDescriber:
    """Describes the regions of one photo in a TensorFlow graph.

    Attributes:
        describe: function from pixels (1, H, W, 3) to L2-normalised region descriptors (R, d) float32, as
            `RegionalPooling.regions` computes them, and boxes (R, 4) float32: left, top, right, bottom as fractions of
            the photo's sides. R is the largest number of regions that a photo of any shape has. Rows are zero if the
            photo has fewer regions, or if the region contains no cell of the feature map.
        shapes: shapes of the descriptors and of the boxes, (R, d) and (R, 4).
    """

    describe: Callable[[Any], tuple[Any, Any]]
    shapes: list[tuple[int, int]]


def region_describer(model: Any) -> RegionDescriber | None:
    """Makes the region describer of a network.

    Args:
        model: keras.Model from `keras_retrieval.build`.

    Returns:
        The describer; None if the network has no `RegionalPooling` layer.
    """
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
