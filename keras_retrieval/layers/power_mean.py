"""Power mean over the scales of a photo."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_retrieval")
class PowerMean(keras.layers.Layer):
    """Joins the descriptors of one photo at several scales: (mean_s v_s^p)^(1/p) (Radenovic et al. TPAMI 2018).

    Args:
        p: the power; that of the GeM pooling where the descriptors come straight from it, else 1. Other powers
            than 1 take descriptors without negative values; what is below 0 counts as 0.

    Input shape:
        A list of S tensors (B, D).

    Output shape:
        (B, D); not normalised.
    """

    def __init__(self, p: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if p <= 0:
            raise ValueError(f"a power mean needs p > 0, not p={p}")
        self.p = float(p)

    def call(self, descriptors: list[Any]) -> Any:
        stacked = ops.cast(ops.stack(descriptors), "float32")
        if self.p == 1:
            mean = ops.mean(stacked, axis=0)
        else:
            mean = ops.power(ops.mean(ops.power(ops.maximum(stacked, 0.0), self.p), axis=0), 1 / self.p)
        return ops.cast(mean, self.compute_dtype)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "p": self.p}
