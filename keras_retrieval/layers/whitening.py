"""Whitening as a layer: shift and projection."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("keras_retrieval")
class Whitening(keras.layers.Layer):
    """Projects descriptors, y = P (x - m), as a trainable kernel P^T and bias -P m.

    Starts as the identity, cut to `dim`; `set_projection` puts a learned whitening in (Lw, Radenovic et al. TPAMI
    2018; PCA), and training may go on from there (shift + FC, Gordo et al. IJCV 2017). It does not normalise:
    L2Normalization follows it.

    Args:
        dim: the number d of dimensions to keep; None keeps all.

    Input shape:
        (..., D).

    Output shape:
        (..., d).

    Raises:
        ValueError: `dim` is below 1 or above D.

    Example:
        >>> Whitening(dim=128)(np.random.rand(2, 512)).shape
        (2, 128)
    """

    def __init__(self, dim: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dim is not None and dim < 1:
            raise ValueError(f"whitening keeps at least 1 dimension, not dim={dim}")
        self.dim = dim
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        size = input_shape[-1]
        if size is None:
            raise ValueError("whitening needs descriptors of a known size")
        dim = size if self.dim is None else self.dim
        if dim > size:
            raise ValueError(f"whitening to dim={dim} needs at least so many dimensions, and there are {size}")
        self.kernel = self.add_weight(name="kernel", shape=(size, dim), initializer="identity")
        self.bias = self.add_weight(name="bias", shape=(dim,), initializer="zeros")

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.kernel) + self.bias

    def set_projection(self, mean: np.ndarray, projection: np.ndarray) -> None:
        """Puts a learned whitening in.

        Args:
            mean: m, (D,).
            projection: P, (d or more, D), the leading rows first; the first d are taken.

        Raises:
            ValueError: the shapes do not fit this layer.
        """
        size, dim = self.kernel.shape
        mean, projection = np.asarray(mean, "float64").ravel(), np.asarray(projection, "float64")
        if mean.shape != (size,) or projection.ndim != 2 or projection.shape[1] != size or len(projection) < dim:
            raise ValueError(
                f"a whitening from {size} to {dim} dimensions takes m ({size},) and P ({dim} or more, {size}), "
                f"not {mean.shape} and {projection.shape}"
            )
        rows = projection[:dim]
        self.kernel.assign(rows.T)
        self.bias.assign(-rows @ mean)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return *input_shape[:-1], input_shape[-1] if self.dim is None else self.dim

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}
