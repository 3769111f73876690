"""Edge strength: converts an edge map that is stored as a grey RGB image to one channel in 0..1."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_retrieval")
class EdgeStrength(keras.layers.Layer):
    """Converts edge maps that are stored as grey RGB images to one channel: the mean over the channels, divided by 255.

    Input shape:
        (B, H, W, 3), in 0..255: 0 where there is no edge, 255 for the strongest edge.

    Output shape:
        (B, H, W, 1), in 0..1.

    Example:
        >>> EdgeStrength()(np.full((1, 1, 1, 3), 51))
        [[[[0.2]]]]
    """

    def call(self, x: Any) -> Any:
        return ops.cast(ops.mean(ops.cast(x, "float32"), axis=-1, keepdims=True) / 255, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return *input_shape[:-1], 1
