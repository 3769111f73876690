"""The class token of a vision transformer as a descriptor."""

from typing import Any

import keras
from keras import ops

from .cells import AllCells, zero_masked


@keras.saving.register_keras_serializable("keras_retrieval")
class ClassToken(keras.layers.Layer):
    """Returns the class token of a vision transformer, alone or followed by the mean of the patch tokens.

    Args:
        mean: whether the mean of the patch tokens is appended, as linear classifiers on DINOv2 take it.

    Input shape:
        (B, h, w, 2 C), the map that `TokenMap(class_token=True)` makes; and an optional `mask` (B, h, w) that is true
        for valid cells, of which the upper left cell is one.

    Output shape:
        (B, C), or (B, 2 C) with `mean`.

    Example:
        >>> ClassToken()(np.random.rand(2, 16, 20, 768)).shape
        (2, 384)

    References:
        Oquab et al.: DINOv2: Learning Robust Visual Features without Supervision. TMLR 2024.
    """

    reads_class_token = True

    def __init__(self, mean: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean = mean
        self.supports_masking = True

    def call(self, x: Any, mask: Any | None = None) -> Any:
        x = zero_masked(ops.cast(x, "float32"), mask)
        patches, token = ops.split(x, 2, axis=-1)
        token = token[:, 0, 0]
        if self.mean:
            mean = ops.squeeze(AllCells(patches, mask).mean(patches), (1, 2))
            token = ops.concatenate([token, mean], axis=-1)
        return ops.cast(token, self.compute_dtype)

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        channels = input_shape[-1]
        return input_shape[0], channels if self.mean or channels is None else channels // 2

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean}
