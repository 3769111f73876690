"""Whitening as a layer: a shift and a linear projection of descriptors."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..errors import ArgumentError


@keras.saving.register_keras_serializable("keras_retrieval")
class Whitening(keras.layers.Layer):
    """Shifts and projects descriptors, y = P (x - m), with a trainable kernel P^T and a trainable bias -P m.

    The initial projection P is the identity, truncated to d rows. `set_projection` sets a learned whitening (Lw or PCA,
    see `keras_retrieval.whitening`), which training can refine. The output is not normalised; an L2Normalization layer
    usually follows.

    Args:
        dim: the number d of output dimensions, in 1..D; None keeps all D.

    Input shape:
        (..., D).

    Output shape:
        (..., d).

    Raises:
        ArgumentError: `dim` is below 1 or above D, or D is unknown when the layer is built.

    Example:
        >>> Whitening(dim=128)(np.random.rand(2, 512)).shape
        (2, 128)

    References:
        Radenovic, Tolias, Chum: Fine-Tuning CNN Image Retrieval with No Human Annotation. TPAMI 2018 (Lw).
        Gordo, Almazan, Revaud, Larlus: End-to-End Learning of Deep Visual Representations. IJCV 2017 (shift and FC).
    """

    def __init__(self, dim: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dim is not None and dim < 1:
            raise ArgumentError(f"dim of the whitening must be at least 1, got {dim}")
        self.dim = dim
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        size = input_shape[-1]
        if size is None:
            raise ArgumentError("the whitening needs descriptors with a known number of dimensions")
        dim = size if self.dim is None else self.dim
        if dim > size:
            raise ArgumentError(f"dim of the whitening must be at most {size}, the size of the descriptors, got {dim}")
        self.kernel = self.add_weight(name="kernel", shape=(size, dim), initializer="identity")
        self.bias = self.add_weight(name="bias", shape=(dim,), initializer="zeros")

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.kernel) + self.bias

    def set_projection(self, mean: np.ndarray, projection: np.ndarray) -> None:
        """Sets the kernel and the bias of a built layer to a learned whitening y = P (x - m).

        Args:
            mean: the shift m, (D,).
            projection: the matrix P, (d or more, D), with rows in order of decreasing variance, of which the layer uses
                the first d; such as the attribute `P` of `whitening.Projection`.

        Raises:
            ArgumentError: the shapes do not match this layer.
        """
        size, dim = self.kernel.shape
        mean, projection = np.asarray(mean, "float64").ravel(), np.asarray(projection, "float64")
        if mean.shape != (size,) or projection.ndim != 2 or projection.shape[1] != size or len(projection) < dim:
            raise ArgumentError(
                f"a whitening from {size} to {dim} dimensions needs a mean of the shape ({size},) and a projection of "
                f"({dim} or more, {size}), got {mean.shape} and {projection.shape}"
            )
        rows = projection[:dim]
        self.kernel.assign(rows.T)
        self.bias.assign(-rows @ mean)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return *input_shape[:-1], input_shape[-1] if self.dim is None else self.dim

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}
