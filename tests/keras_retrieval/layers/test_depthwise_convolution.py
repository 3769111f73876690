"""DepthwiseConvolution gives what keras.layers.Conv2D gives with a group for each channel."""

import keras
import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from keras_retrieval.layers import DepthwiseConvolution
from keras_retrieval.networks.depthwise import with_depthwise_convolutions

pytestmark = pytest.mark.backend


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same", "kernel_size": 7},
        {"kernel_size": (3, 5), "strides": 2, "use_bias": False},
        {"kernel_size": 3, "dilation_rate": 2, "padding": "same", "activation": "relu"},
    ],
    ids=["same", "strides", "dilated"],
)
def test_it_is_a_convolution_with_groups(options):
    options = {"groups": 6, "bias_initializer": "random_normal", **options}
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(2, 13, 17, 6)).astype("float32")
    grouped, ours = keras.layers.Conv2D(6, **options), DepthwiseConvolution(6, **options)
    expected, _ = grouped(x), ours(x)
    ours.set_weights(grouped.get_weights())
    rows = keras.ops.convert_to_numpy(ours(x))
    np.testing.assert_allclose(rows, keras.ops.convert_to_numpy(expected), atol=1e-6)
    assert np.abs(rows).max() > 0.1


@pytest.mark.parametrize(("filters", "groups", "channels"), [(6, 3, 6), (12, 6, 6), (6, 6, 8)])
def test_other_groups_are_refused(filters, groups, channels):
    with pytest.raises(ArgumentError, match="as many filters and groups as channels"):
        DepthwiseConvolution(filters, 3, groups=groups).build((None, None, None, channels))


def test_only_groups_of_one_channel_are_replaced_and_weights_stay():
    inner = keras.Sequential([keras.Input((None, None, 6)), keras.layers.Conv2D(8, 2, 2, name="inside")], name="inner")
    x = images = keras.Input((None, None, 3))
    for name, filters, groups in (("plain", 6, 1), ("each", 6, 6), ("pairs", 6, 3)):
        x = keras.layers.Conv2D(filters, 3, groups=groups, name=name)(x)
    trunk = keras.Model(images, inner(x), name="trunk")
    copy = with_depthwise_convolutions(trunk)
    depthwise = [layer.name for layer in copy.layers if isinstance(layer, DepthwiseConvolution)]
    assert depthwise == ["each"]
    assert [layer.name for layer in copy.layers[1:]] == [layer.name for layer in trunk.layers[1:]]
    for old, new in zip(trunk.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new))
    photos = np.random.default_rng(0).normal(size=(1, 12, 14, 3)).astype("float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(copy(photos)), keras.ops.convert_to_numpy(trunk(photos)), atol=1e-6
    )
