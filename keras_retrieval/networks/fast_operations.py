"""Replaces operations of keras.applications' ConvNeXts that TensorFlow computes slowly on processors."""

from typing import Any

import keras

from ..layers import DepthwiseConvolution
from ..layers.attention import gelu


def with_fast_operations(trunk: Any) -> Any:
    """Returns a copy of a trunk that computes the same faster.

    `layers.DepthwiseConvolution` computes its convolutions with a group for each channel, and erf its GELUs, for which
    Keras takes erfc, four times as slow in bfloat16.

    Args:
        trunk: keras.Model, such as a ConvNeXt of keras.applications.

    Returns:
        A keras.Model with layers of the same names and the same weights.
    """

    def copied(layer: Any) -> Any:
        config = layer.get_config()
        if type(layer) is keras.layers.Conv2D and layer.groups == layer.filters > 1:
            return DepthwiseConvolution.from_config(config)
        if type(layer) is keras.layers.Activation and layer.activation is keras.activations.gelu:
            return keras.layers.Activation.from_config(config | {"activation": gelu})
        return type(layer).from_config(config)

    copy = keras.models.clone_model(trunk, clone_function=copied)
    copy.set_weights(trunk.get_weights())
    return copy
