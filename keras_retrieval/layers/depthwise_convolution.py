"""Depthwise convolutions with the weights of keras.layers.Conv2D."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError


@keras.saving.register_keras_serializable("keras_retrieval")
class DepthwiseConvolution(keras.layers.Conv2D):
    """keras.layers.Conv2D with one group for each channel: the same options, weights and results, but faster.

    TensorFlow computes `Conv2D` with groups on a processor by XLA, which takes about 100 times as long for the
    convolutions of a ConvNeXt, and compiles them for each size of photo. It computes in the precision of its policy.

    Args:
        filters: number of output channels, which is that of the input channels and of the groups.
        kernel_size: height and width of the kernel.
        **kwargs: the other arguments of keras.layers.Conv2D.

    Input shape:
        (B, h, w, C).

    Output shape:
        (B, h', w', C).

    Raises:
        ArgumentError: `filters`, `groups` and the number of input channels differ.

    Example:
        >>> DepthwiseConvolution(8, 7, groups=8, padding="same")(np.zeros((1, 5, 6, 8))).shape
        (1, 5, 6, 8)

    References:
        Liu et al.: A ConvNet for the 2020s. CVPR 2022.
    """

    def build(self, input_shape: Any) -> None:
        if not self.filters == self.groups == input_shape[-1]:
            raise ArgumentError(
                f"a depthwise convolution has as many filters and groups as channels, got {self.filters} filters and "
                f"{self.groups} groups for {input_shape[-1]} channels"
            )
        super().build(input_shape)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Computes the convolution; Keras calls this."""
        return ops.depthwise_conv(
            inputs,
            ops.swapaxes(kernel, -1, -2),  # (h, w, 1, C) of a convolution with groups, here (h, w, C, 1)
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
