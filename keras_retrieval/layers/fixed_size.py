"""Resizing of photos to one size, for networks whose weights depend on it."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .resampling import resampled


@keras.saving.register_keras_serializable("keras_retrieval")
class FixedSize(keras.layers.Layer):
    """Resizes photos of any size to one size, without regard to their aspect ratio.

    The interpolation is bilinear and antialiased. In a batch of padded photos the valid part of each is resized, so
    that the output has no padding.

    Args:
        height: height of the output in pixels, at least 1.
        width: its width.

    Input shape:
        (B, H, W, C); H and W may be unknown until run time. An optional `mask` (B, H, W) is true on a rectangle of
        valid pixels at the upper left.

    Output shape:
        (B, height, width, C), without a mask.

    Raises:
        ArgumentError: `height` or `width` is below 1.

    Example:
        >>> FixedSize(320, 320)(np.zeros((1, 480, 640, 3))).shape
        (1, 320, 320, 3)
    """

    def __init__(self, height: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if min(height, width) < 1:
            raise ArgumentError(f"height and width must be at least 1 pixel, got {height} and {width}")
        self.height, self.width = height, width
        self.supports_masking = True

    def call(self, x: Any, mask: Any | None = None) -> Any:
        sides = (self.height, self.width)
        if mask is None and tuple(x.shape[1:3]) == sides:
            return x
        return ops.cast(resampled(x, mask, sides, sides), self.compute_dtype)

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[0], self.height, self.width, input_shape[-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width}
