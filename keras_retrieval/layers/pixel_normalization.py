"""Pixel normalisation as a layer, which is saved with the model, so that callers pass RGB 0..255 to every network."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError

# Conventions of pretrained weights, for pixels 0..255: mean and standard deviation in the order of `channels`.
CONVENTIONS: dict[str, dict[str, Any]] = {
    "torch": {
        "mean": [0.485 * 255, 0.456 * 255, 0.406 * 255],
        "deviation": [0.229 * 255, 0.224 * 255, 0.225 * 255],
        "channels": "rgb",
    },
    "caffe": {"mean": [103.939, 116.779, 123.68], "deviation": [1.0, 1.0, 1.0], "channels": "bgr"},
    "none": {"mean": [0.0, 0.0, 0.0], "deviation": [1.0, 1.0, 1.0], "channels": "rgb"},
    "torch-bgr": {
        "mean": [0.406 * 255, 0.456 * 255, 0.485 * 255],
        "deviation": [0.225 * 255, 0.224 * 255, 0.229 * 255],
        "channels": "bgr",
    },
}


@keras.saving.register_keras_serializable("keras_retrieval")
class PixelNormalization(keras.layers.Layer):
    """Normalises RGB pixels in 0..255 as a pretrained trunk expects them: (x - mean) / deviation for each channel.

    Args:
        mean: mean of each of the three channels, in units of 0..255, in the order of `channels`.
        deviation: standard deviation of each channel, above 0, in the same units and order.
        channels: order of the channels that the trunk expects: "rgb", or "bgr", for which the layer reverses the
            channels before it normalises.

    Input shape:
        (B, H, W, 3), RGB, 0..255.

    Output shape:
        (B, H, W, 3), in the order of `channels`.

    Raises:
        ArgumentError: `mean` or `deviation` does not have three numbers, a deviation is not above 0, or `channels` is
            unknown.

    Example:
        >>> PixelNormalization.of("caffe")(np.zeros((1, 8, 8, 3)))[0, 0, 0]
        [-103.939, -116.779, -123.68]
    """

    def __init__(self, mean: Sequence[float], deviation: Sequence[float], channels: str = "rgb", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean, self.deviation, self.channels = [*map(float, mean)], [*map(float, deviation)], channels
        if len(self.mean) != 3 or len(self.deviation) != 3 or min(self.deviation) <= 0:
            raise ArgumentError(
                f"mean and deviation must be 3 numbers each, deviations above 0, got {self.mean} and {self.deviation}"
            )
        if channels not in ("rgb", "bgr"):
            raise ArgumentError(f"channels must be 'rgb' or 'bgr', got {channels!r}")

    @classmethod
    def of(cls, convention: str, **kwargs: Any) -> "PixelNormalization":
        """Makes a layer with the mean, deviation and channel order of a convention of pretrained weights.

        Args:
            convention: "torch" for torchvision's ImageNet mean and deviation in RGB order, "torch-bgr" for the same
                numbers in BGR order, as CVNet expects them, "caffe" for the ImageNet
                mean in BGR order and deviation 1, or "none" to leave the pixels unchanged.
            **kwargs: further arguments of the layer, such as `name`.

        Raises:
            ArgumentError: the convention is unknown.
        """
        if convention not in CONVENTIONS:
            raise ArgumentError(f"normalization must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
        return cls(**CONVENTIONS[convention], **kwargs)

    def call(self, x: Any) -> Any:
        x = ops.cast(x, "float32")
        if self.channels == "bgr":
            x = ops.flip(x, axis=-1)
        x = (x - ops.array(self.mean, "float32")) / ops.array(self.deviation, "float32")
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mean": self.mean,
            "deviation": self.deviation,
            "channels": self.channels,
        }
