"""Tuples of small photos, padded and at their exact sizes, and small networks to train on them."""

from typing import Any

import keras
import numpy as np

from keras_retrieval import layers
from pipelines.training.tuple_batches import exact, padded
from tests.helpers.small import SIZES

SIDE = 64


def photos(tuples=3, count=5, sizes=SIZES, seed=0):
    """Photos of random sizes and pixels, tuple after tuple."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*sizes[rng.integers(len(sizes))], 3), dtype=np.uint8) for _ in range(tuples * count)]


def batch(form, pixels, tuples=3):
    """(inputs, objects) as the stream gives them: padded or exact."""
    rows = np.arange(len(pixels), dtype="int32").reshape(tuples, -1)
    inputs = padded(pixels, tuples, SIDE) if form == "padded" else exact(pixels)
    objects = rows.copy()
    objects[:, 1] = objects[:, 0]  # the positive is of the query's object
    return {**inputs, "rows": rows}, objects


def network_with_statistics(whitening=False, dimensions=8) -> Any:
    """Convolutions that see no border, BatchNormalization between them, GeM and, if asked for, a whitening."""
    keras.utils.set_random_seed(1)
    images, pixels = keras.Input((None, None, 3), name="images"), keras.Input((None, None, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, name="first")(pixels)
    x = keras.layers.BatchNormalization(name="statistics")(x)
    x = keras.layers.Dropout(0.5)(keras.layers.ReLU()(x))
    x = keras.layers.Conv2D(dimensions, 3, strides=2, bias_initializer="ones", name="second")(x)
    trunk = keras.Model(pixels, x, name="trunk")
    x = trunk(layers.PixelNormalization.of("torch", name="normalization")(images))
    x = layers.L2Normalization(name="l2")(layers.GeM(name="pooling", p_speed=10)(x))
    if whitening:
        x = layers.L2Normalization(name="l2_whitened")(layers.Whitening(4, name="whitening")(x))
    return keras.Model(images, x, name="with_statistics")


def network_with_proposals() -> Any:
    """The same trunk with R-MAC on regions that are whitened and proposed, by heads not as weak as at the start."""
    network = network_with_statistics()
    proposals = layers.RegionProposals(5, (2, 4), filters=4, candidates=30)
    pooling = layers.RMAC(name="pooling", whitening=layers.Whitening(4), proposals=proposals)
    x = pooling(network.get_layer("pooling").input)
    proposals.set_weights([20 * weight for weight in proposals.get_weights()])
    return keras.Model(network.input, layers.L2Normalization(name="l2")(x), name="with_proposals")
