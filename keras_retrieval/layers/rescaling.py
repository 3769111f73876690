"""Resizing of photos by a factor, inside a model."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..errors import ArgumentError
from .cells import valid_size


@keras.saving.register_keras_serializable("keras_retrieval")
class Rescaling(keras.layers.Layer):
    """Resizes photos by a factor with bilinear interpolation.

    The interpolation is implemented as two matrix products, which can be exported from every Keras backend.

    Args:
        factor: ratio of the new to the old height and width, above 0.
        antialias: whether the interpolation filter is widened by 1 / factor if the factor is below 1. False reproduces
            the published PyTorch networks, which interpolate the four nearest pixels at every factor.
        by_size: whether the photo is stretched by the ratio of the new size, which is rounded down, to the old one, as
            SuperGlobal's published code does; by default by the factor itself.

    Input shape:
        (B, H, W, C); H and W may be unknown until run time. An optional `mask` (B, H, W) is true on a rectangle of
        valid pixels at the upper left; each photo of such a batch is resized by itself.

    Output shape:
        (B, floor(factor x H), floor(factor x W), C), where height and width are at least 1.

    Raises:
        ArgumentError: `factor` is not above 0.

    Example:
        >>> Rescaling(0.5)(np.zeros((1, 480, 640, 3))).shape
        (1, 240, 320, 3)
    """

    def __init__(self, factor: float, antialias: bool = True, by_size: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not factor > 0:
            raise ArgumentError(f"factor must be above 0, got {factor}")
        self.factor = float(factor)
        self.antialias = antialias
        self.by_size = by_size
        self.supports_masking = True

    def call(self, x: Any, mask: Any | None = None) -> Any:
        batch, height, width, channels = ops.shape(x)
        x = ops.cast(x, "float32")
        sizes = (None, None) if mask is None else valid_size(x, mask)
        rows, columns = (self._weights(length, size) for length, size in zip((height, width), sizes, strict=True))
        x = ops.matmul(rows, ops.reshape(x, (-1, height, width * channels)))
        x = ops.reshape(x, (batch, self.resized(height), width, channels))
        return ops.cast(ops.matmul(columns if mask is None else columns[:, None], x), self.compute_dtype)

    def _weights(self, length: Any, size: Any | None) -> Any:
        """Computes the weight of each old pixel in each new pixel along one axis.

        Args:
            length: length of the axis.
            size: number of valid pixels of each photo, (B,); None if all are valid.

        Returns:
            (new length, length), or with `size` (B, new length, length).
        """
        new = self.resized(length)
        old = length if size is None else size[:, None, None]
        factor = ops.cast(self.resized(old), "float32") / ops.cast(old, "float32") if self.by_size else self.factor
        reach = ops.maximum(1 / factor, 1.0) if self.antialias else 1.0
        centre = (ops.cast(ops.arange(new), "float32")[:, None] + 0.5) / factor
        distance = ops.cast(ops.arange(length), "float32") + 0.5 - centre
        weights = ops.maximum(1 - ops.abs(distance) / reach, 0.0)
        if size is None:
            return weights / ops.sum(weights, axis=1, keepdims=True)
        weights = ops.where((ops.arange(length) < old) & (ops.arange(new)[:, None] < self.resized(old)), weights, 0.0)
        return weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1e-6)

    def compute_mask(self, x: Any, mask: Any | None = None) -> Any:
        if mask is None:
            return None
        sides = zip(ops.shape(x)[1:3], valid_size(x, mask), strict=True)
        rows, columns = (ops.arange(self.resized(side)) < self.resized(size)[:, None] for side, size in sides)
        return rows[:, :, None] & columns[:, None, :]

    def resized(self, length: Any) -> Any:
        """The sides of photos in pixels after resizing, an integer or a tensor as `length` is."""
        if isinstance(length, int):
            return max(int(np.float32(length) * np.float32(self.factor)), 1)  # as for lengths that are tensors
        return ops.maximum(ops.cast(ops.cast(length, "float32") * self.factor, "int32"), 1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        sides = (None if side is None else self.resized(side) for side in (height, width))
        return batch, *sides, channels

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor, "antialias": self.antialias, "by_size": self.by_size}
