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
    most = _most_regions(pooling)

    def describe(pixels: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        cells = trunk(pixels, training=False)
        vectors = pooling.regions(cells)[0][0]
        boxes = _boxes(pooling, *tf.unstack(tf.shape(cells)[1:3], num=2))
        behind = ((0, most - tf.shape(vectors)[0]), (0, 0))
        return tf.pad(vectors, behind), tf.pad(boxes, behind)

    return Regions(describe, [(most, pooling.output.shape[-1]), (most, 4)])


def _most_regions(pooling: Any) -> int:
    from keras_retrieval.layers.regions import MOST_EXTRA

    return pooling.whole_map + sum(level * (level + MOST_EXTRA) for level in range(1, pooling.levels + 1))


def _boxes(pooling: Any, height: Any, width: Any) -> Any:
    """The regions of a map of h x w cells in the order of `RegionalPooling.regions`: (R, 4), zero without a cell."""
    import tensorflow as tf

    from keras_retrieval.layers.regions import region_masks

    boxes = [tf.constant([[0.0, 0.0, 1.0, 1.0]])] if pooling.whole_map else []
    for level in range(1, pooling.levels + 1):
        rows, columns = (_intervals(mask) for mask in region_masks(height, width, level, (height, width)))
        top, bottom = (tf.repeat(side, tf.shape(columns)[0]) for side in tf.unstack(rows, axis=1))
        left, right = (tf.tile(side, tf.shape(rows)[:1]) for side in tf.unstack(columns, axis=1))
        exists = (bottom > top) & (right > left)
        boxes.append(tf.where(exists[:, None], tf.stack([left, top, right, bottom], axis=1), 0.0))
    return tf.concat(boxes, axis=0)


def _intervals(masks: Any) -> Any:
    """Where runs of true (R, n) begin and end, (R, 2), as shares of n."""
    import tensorflow as tf

    start, count = tf.argmax(tf.cast(masks, tf.int32), axis=1), tf.math.count_nonzero(masks, axis=1)
    return tf.cast(tf.stack([start, start + count], axis=1), tf.float32) / tf.cast(tf.shape(masks)[1], tf.float32)
