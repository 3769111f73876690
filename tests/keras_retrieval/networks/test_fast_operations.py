"""Trunks with faster operations compute what those of Keras compute."""

import keras
import numpy as np
import pytest

from keras_retrieval.layers import DepthwiseConvolution
from keras_retrieval.layers.attention import gelu
from keras_retrieval.networks.fast_operations import with_fast_operations

pytestmark = pytest.mark.backend


def test_depthwise_convolutions_and_gelus_are_replaced_and_weights_stay(tmp_path):
    inner = keras.Sequential([keras.Input((None, None, 6)), keras.layers.Conv2D(8, 2, 2, name="inside")], name="inner")
    x = images = keras.Input((None, None, 3))
    for name, filters, groups in (("plain", 6, 1), ("each", 6, 6), ("pairs", 6, 3)):
        x = keras.layers.Conv2D(filters, 3, groups=groups, name=name)(x)
    x = keras.layers.Activation("relu", name="relu")(keras.layers.Activation("gelu", name="gelu")(x))
    trunk = keras.Model(images, inner(x), name="trunk")
    copy = with_fast_operations(trunk)
    assert [layer.name for layer in copy.layers[1:]] == [layer.name for layer in trunk.layers[1:]]
    assert [layer.name for layer in copy.layers if isinstance(layer, DepthwiseConvolution)] == ["each"]
    assert copy.get_layer("gelu").activation is gelu
    assert copy.get_layer("relu").activation is keras.activations.relu
    for old, new in zip(trunk.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new))
    photos = np.random.default_rng(0).normal(size=(1, 12, 14, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(trunk(photos))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(copy(photos)), expected, atol=1e-6)
    copy.save(tmp_path / "copy.keras")
    loaded = keras.saving.load_model(tmp_path / "copy.keras")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loaded(photos)), expected, atol=1e-6)
