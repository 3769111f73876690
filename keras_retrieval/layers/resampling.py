"""Antialiased bilinear resizing as matrix products, for whole and padded photos."""

from typing import Any

from keras import ops

from .cells import valid_size, zero_masked


def resampled(x: Any, mask: Any | None, sides: tuple[Any, Any], sizes: tuple[Any, Any]) -> Any:
    """Resizes photos; those of a padded batch each by itself.

    Args:
        x: photos, (B, H, W, C).
        mask: (B, H, W), true on a rectangle of valid pixels at the upper left; None if all are valid.
        sides: height and width of the output.
        sizes: height and width to which the valid part of each photo is resized, numbers or (B,).

    Returns:
        (B, *sides, C) float32, 0 in the padding.
    """
    x = zero_masked(ops.cast(x, "float32"), mask)
    batch, height, width, channels = ops.shape(x)
    rows, columns = (
        _weights(length, old, side, new)
        for length, old, side, new in zip((height, width), valid_size(x, mask), sides, sizes, strict=True)
    )
    x = ops.matmul(rows, ops.reshape(x, (batch, height, width * channels)))
    x = ops.reshape(x, (batch, sides[0], width, channels))
    return ops.matmul(columns if columns.ndim == 2 else columns[:, None], x)


def _weights(length: Any, old: Any, side: Any, new: Any) -> Any:
    """Weights of `length` pixels, `old` of them valid, in `side` pixels, `new` of them valid: (.., side, length)."""
    old, new = (ops.expand_dims(ops.cast(number, "float32"), (-2, -1)) for number in (old, new))
    scale = old / new
    reach = ops.maximum(scale, 1.0)
    row = ops.cast(ops.arange(side), "float32")[:, None]
    column = ops.cast(ops.arange(length), "float32")
    weights = ops.maximum(1 - ops.abs(column + 0.5 - (row + 0.5) * scale) / reach, 0.0)
    weights = ops.where((column < old) & (row < new), weights, 0.0)
    return weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1e-6)
