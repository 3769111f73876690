"""Power mean of the descriptors that a network computes for one photo at several scales."""

import math
from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError


@keras.saving.register_keras_serializable("keras_retrieval")
class PowerMean(keras.layers.Layer):
    """Combines the descriptors v_s of the same photo at several scales s into their power mean (mean_s v_s^p)^(1/p).

    Args:
        p: the power, above 0; infinity for the maximum over the scales. For descriptors that are the direct output of
            GeM pooling, use GeM's exponent; otherwise use 1. With a finite power other than 1, negative values are
            replaced by 0.

    Input shape:
        A list of tensors (B, D), one per scale.

    Output shape:
        (B, D); the output is not L2-normalised.

    Raises:
        ArgumentError: p is not above 0.

    Example:
        >>> PowerMean(p=3.0)([np.random.rand(2, 512), np.random.rand(2, 512)]).shape
        (2, 512)

    References:
        Radenovic, Tolias, Chum: Fine-Tuning CNN Image Retrieval with No Human Annotation. TPAMI 2018.
    """

    def __init__(self, p: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not p > 0:
            raise ArgumentError(f"p of the power mean must be above 0, got {p}")
        self.p = float(p)

    def call(self, descriptors: list[Any]) -> Any:
        stacked = ops.cast(ops.stack(descriptors), "float32")
        if self.p == 1:
            mean = ops.mean(stacked, axis=0)
        elif math.isinf(self.p):
            mean = ops.max(stacked, axis=0)
        else:
            mean = ops.power(ops.mean(ops.power(ops.maximum(stacked, 0.0), self.p), axis=0), 1 / self.p)
        return ops.cast(mean, self.compute_dtype)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "p": self.p}
