"""DepthwiseConvolution gives what keras.layers.Conv2D gives with a group for each channel."""

import keras
import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from keras_retrieval.layers import DepthwiseConvolution

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
