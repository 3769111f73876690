"""The head of SuperGlobal: regional GeM, GeM+ and a Dense layer."""

import math
from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .cells import AllCells, valid_size, zero_masked
from .l2_normalization import unit

_REACH = 2  # cells on each side of the centre of a window


@keras.saving.register_keras_serializable("keras_retrieval")
class SuperGlobal(keras.layers.Layer):
    """Averages a feature map with its regional GeM, pools it by GeM, L2-normalises, and applies a Dense layer.

    Regional GeM is the generalised mean over windows of 5 x 5 cells around each cell, where the map is mirrored at its
    border. The descriptor is not normalised; an L2Normalization layer usually follows. At several scales, the published
    code takes the maximum of the scales' descriptors in each dimension, which `multi_scale` does for this pooling.

    Args:
        units: dimensions of the descriptor, at least 1.
        p: exponent of GeM, above 0.
        regional_p: exponent of the regional GeM, above 0.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) that is true on a rectangle of valid cells at the upper left.

    Output shape:
        (B, units).

    Raises:
        ArgumentError: an argument is out of range.

    Example:
        >>> SuperGlobal()(np.random.rand(1, 12, 16, 2048)).shape
        (1, 2048)

    References:
        Shao et al.: Global Features are All You Need for Image Retrieval and Reranking. ICCV 2023.
    """

    scales_power = math.inf  # of the mean over scales

    def __init__(self, units: int = 2048, p: float = 4.6, regional_p: float = 2.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if units < 1:
            raise ArgumentError(f"units of SuperGlobal must be at least 1, got {units}")
        if not (p > 0 and regional_p > 0):
            raise ArgumentError(f"p and regional_p of SuperGlobal must be above 0, got {p} and {regional_p}")
        self.units, self.p, self.regional_p = units, p, regional_p
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units), initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, x: Any, mask: Any | None = None) -> Any:
        x = zero_masked(ops.cast(x, "float32"), mask)
        sides, sizes = ops.shape(x)[1:3], valid_size(x, mask)
        top = ops.stop_gradient(ops.maximum(ops.max(x, axis=(1, 2, 3), keepdims=True), 1e-6))  # against overflow
        rows, columns = (_window(side, size) for side, size in zip(sides, sizes, strict=True))
        powers = ops.power(ops.maximum(x, 1e-6) / top, self.regional_p)
        means = ops.einsum("ij,bjwc->biwc" if rows.ndim == 2 else "bij,bjwc->biwc", rows, powers)
        means = ops.einsum("ij,bhjc->bhic" if columns.ndim == 2 else "bij,bhjc->bhic", columns, means)
        x = 0.5 * x + 0.5 * top * ops.power(ops.maximum(means, 1e-30), 1 / self.regional_p)
        powers = ops.power(ops.maximum(x, 1e-8) / top, self.p)
        x = ops.squeeze(AllCells(x, mask).mean(powers), (1, 2))
        x = unit(ops.power(ops.maximum(x, 1e-37), 1 / self.p))
        x = ops.matmul(x, ops.cast(self.kernel, "float32")) + ops.cast(self.bias, "float32")
        return ops.cast(x, self.compute_dtype)

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[0], self.units

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "p": self.p, "regional_p": self.regional_p}


def _window(side: Any, size: Any) -> Any:
    """Weights of each cell in the mean over the window around each cell of an axis, mirrored at the border.

    Args:
        side: length of the axis.
        size: number of valid cells, one number or (B,).

    Returns:
        (side, side) or (B, side, side), whose rows of valid cells sum to 1.
    """
    last = ops.expand_dims(ops.cast(size, "int32") - 1, -1)
    cells = ops.arange(side)
    weights: Any = 0.0
    for step in range(-_REACH, _REACH + 1):
        place = ops.abs(cells + step)
        place = ops.clip(ops.minimum(place, 2 * last - place), 0, last)
        weights = weights + ops.cast(place[..., None] == cells, "float32")
    return weights / (2 * _REACH + 1)
