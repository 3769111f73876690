"""L2 normalisation x / (||x|| + 1e-6), as in the networks of Radenovic et al. (TPAMI 2018)."""

from typing import Any

import keras
from keras import ops

EPSILON = 1e-6


def l2_normalize(x: Any, axis: int = -1) -> Any:
    """Computes x / (||x|| + 1e-6) along an axis.

    Args:
        x: a tensor of any shape.
        axis: the axis of the vectors to normalise.

    Returns:
        A tensor of the same shape. A zero vector stays 0 and has a finite gradient.
    """
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    zero = ops.equal(squares, 0)
    norm = ops.where(zero, 0.0, ops.sqrt(ops.where(zero, 1.0, squares)))
    return x / (norm + EPSILON)


def unit(x: Any, axis: int = -1) -> Any:
    """Computes x / max(||x||, 1e-12) along an axis, as torch's `normalize` does; see `l2_normalize`."""
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, 1e-24))


@keras.saving.register_keras_serializable("keras_retrieval")
class L2Normalization(keras.layers.Layer):
    """L2-normalises vectors: x / (||x|| + 1e-6), as in the networks of Radenovic et al. (TPAMI 2018).

    The constant 1e-6 is added to the norm. Other libraries bound the squared norm from below instead, which gives
    slightly different values.

    Args:
        axis: the axis of the vectors to normalise.

    Input shape:
        Any shape.

    Output shape:
        The shape of the input.

    Example:
        >>> L2Normalization()(np.array([[3.0, 4.0]]))
        [[0.6, 0.8]]
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.supports_masking = True

    def call(self, x: Any) -> Any:
        return ops.cast(l2_normalize(ops.cast(x, "float32"), self.axis), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}
