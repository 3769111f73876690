"""Resizing of photos to sides that are multiples of a vision transformer's patch."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .cells import valid_size
from .resampling import resampled


@keras.saving.register_keras_serializable("keras_retrieval")
class FitToPatches(keras.layers.Layer):
    """Resizes photos so that each side is a multiple of the patch size: side -> max(round(side / patch), 1) x patch.

    The interpolation is bilinear and antialiased, as in MegaLoc's published code. Halves are rounded to the even
    number of patches. A photo whose sides are multiples already is not changed. In a batch of padded photos each photo
    is resized by itself, by the size of its valid part.

    Args:
        patch: side of a patch in pixels, at least 1.

    Input shape:
        (B, H, W, C); H and W may be unknown until run time. An optional `mask` (B, H, W) is true on a rectangle of
        valid pixels at the upper left.

    Output shape:
        (B, H', W', C), where H' and W' are the multiples of `patch` nearest to H and W. The mask is resized, too.

    Raises:
        ArgumentError: `patch` is below 1.

    Example:
        >>> FitToPatches(14)(np.zeros((1, 480, 640, 3))).shape
        (1, 476, 644, 3)

    References:
        Berton, Masone: MegaLoc: One Retrieval to Place Them All. CVPRW 2025.
    """

    def __init__(self, patch: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if patch < 1:
            raise ArgumentError(f"patch must be at least 1 pixel, got {patch}")
        self.patch = patch
        self.supports_masking = True

    def call(self, x: Any, mask: Any | None = None) -> Any:
        height, width = ops.shape(x)[1:3]
        if mask is None and all(isinstance(side, int) and self.fitted(side) == side for side in (height, width)):
            return x
        sides = self.fitted(height), self.fitted(width)
        rows, columns = valid_size(x, mask)
        x = resampled(x, mask, sides, (self.fitted(rows), self.fitted(columns)))
        return ops.cast(x, self.compute_dtype)

    def fitted(self, side: Any) -> Any:
        """The sides of photos in pixels after resizing, an integer or a tensor as `side` is."""
        if isinstance(side, int):
            return max(round(side / self.patch), 1) * self.patch
        patches = ops.round(ops.cast(side, "float32") / self.patch)
        return ops.cast(ops.maximum(patches, 1.0), "int32") * self.patch

    def compute_mask(self, x: Any, mask: Any | None = None) -> Any:
        if mask is None:
            return None
        sides = zip(ops.shape(x)[1:3], valid_size(x, mask), strict=True)
        rows, columns = (ops.arange(self.fitted(side)) < self.fitted(size)[:, None] for side, size in sides)
        return rows[:, :, None] & columns[:, None, :]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        return batch, *(None if side is None else self.fitted(side) for side in (height, width)), channels

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "patch": self.patch}
