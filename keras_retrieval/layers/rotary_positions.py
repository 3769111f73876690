"""Rotary positions of a map of patches, as DINOv3 has them."""

import math
from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .cells import valid_size


@keras.saving.register_keras_serializable("keras_retrieval")
class RotaryPositions(keras.layers.Layer):
    """Computes the cosines and sines by which attention turns queries and keys (RoPE), from the place of each patch.

    The centre of a patch has the coordinates y = 2 (i + 0.5) / h - 1 and x = 2 (j + 0.5) / w - 1. Its angles are
    2 pi y / t_j and 2 pi x / t_j with the periods t_j = base^(4 j / d), j = 0 .. d/4 - 1, twice in a row.

    Args:
        size: channels d of a head, a multiple of 4.
        base: base of the periods.

    Input shape:
        (B, h, w, D), with an optional `mask` (B, h, w) that is true on a rectangle of valid patches at the upper left.
        The places in a padded photo are those in the photo without padding.

    Output shape:
        (1, h x w, 2 d) without a mask, (B, h x w, 2 d) with one: cosines, then sines, in float32 under every dtype
        policy.

    Raises:
        ArgumentError: `size` is not a multiple of 4.

    Example:
        >>> RotaryPositions(64)(np.zeros((1, 14, 18, 384))).shape
        (1, 252, 128)

    References:
        Simeoni et al.: DINOv3. 2025.
    """

    def __init__(self, size: int, base: float = 100.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if size < 4 or size % 4:
            raise ArgumentError(f"size of a head must be a multiple of 4, got {size}")
        self.size = size
        self.base = base
        self.supports_masking = True

    def call(self, x: Any, mask: Any | None = None) -> Any:
        height, width = ops.shape(x)[1:3]
        steps = ops.cast(ops.arange(self.size // 4), "float32")
        frequencies = 2 * math.pi * ops.power(self.base, -4 * steps / self.size)
        sizes = (ops.reshape(ops.cast(size, "float32"), (-1, 1)) for size in valid_size(x, mask))
        y, x = (
            (2 * (ops.cast(ops.arange(side), "float32") + 0.5) / size - 1)[..., None] * frequencies
            for side, size in zip((height, width), sizes, strict=True)
        )
        photos = ops.shape(y)[0]
        grid = (photos, height, width, self.size // 4)
        angles = ops.concatenate([ops.broadcast_to(y[:, :, None], grid), ops.broadcast_to(x[:, None], grid)], axis=-1)
        angles = ops.reshape(angles, (photos, height * width, self.size // 2))
        angles = ops.concatenate([angles, angles], axis=-1)
        return ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        _, height, width, _ = input_shape
        return 1, None if height is None or width is None else height * width, 2 * self.size

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "base": self.base}
