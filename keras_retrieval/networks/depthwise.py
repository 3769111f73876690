"""Replaces convolutions with one group for each channel, which are slow on processors."""

from typing import Any

import keras

from ..layers import DepthwiseConvolution


def with_depthwise_convolutions(trunk: Any) -> Any:
    """Returns a copy of a trunk in which `layers.DepthwiseConvolution` computes convolutions of a group per channel.

    Args:
        trunk: keras.Model, such as a ConvNeXt of keras.applications.

    Returns:
        A keras.Model with layers of the same names, the same weights and the same results.
    """

    def copied(layer: Any) -> Any:
        grouped = type(layer) is keras.layers.Conv2D and layer.groups == layer.filters > 1
        kind = DepthwiseConvolution if grouped else type(layer)
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(trunk, clone_function=copied)
    copy.set_weights(trunk.get_weights())
    return copy
