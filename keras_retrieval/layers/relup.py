"""ReLUP: a rectifier with a positive floor."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_retrieval")
class ReLUP(keras.layers.Layer):
    """Computes max(x, floor).

    Args:
        floor: the smallest value of the output; 0 for a ReLU.

    Input shape:
        Any shape.

    Output shape:
        The shape of the input.

    Example:
        >>> ReLUP(0.014)(np.array([-1.0, 2.0]))
        [0.014, 2.0]

    References:
        Shao et al.: Global Features are All You Need for Image Retrieval and Reranking. ICCV 2023.
    """

    def __init__(self, floor: float = 0.014, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.floor = floor
        self.supports_masking = True

    def call(self, x: Any) -> Any:
        return ops.maximum(x, ops.cast(self.floor, x.dtype))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "floor": self.floor}
