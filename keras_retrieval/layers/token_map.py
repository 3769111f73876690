"""The feature map of a vision transformer, from its tokens."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_retrieval")
class TokenMap(keras.layers.Layer):
    """Arranges the patch tokens of a vision transformer as a feature map.

    Args:
        class_token: whether the class token is appended to the channels of each cell, which carries it to poolings
            that need it: `ClassToken` and `SALAD`.

    Input shape:
        A list of the tokens (B, T, D), whose last h x w are patches and whose first is the class token, and of any
        tensor (B, h, w, ..) of the map's size.

    Output shape:
        (B, h, w, D), or with `class_token` (B, h, w, 2 D): the patch, then the class token. The mask of the second
        input is passed on.

    Example:
        >>> TokenMap()([np.zeros((1, 321, 384)), np.zeros((1, 16, 20, 384))]).shape
        (1, 16, 20, 384)
    """

    def __init__(self, class_token: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.class_token = class_token
        self.supports_masking = True

    def call(self, inputs: list[Any], mask: Any | None = None) -> Any:
        tokens, like = inputs
        batch, height, width = ops.shape(like)[:3]
        channels = tokens.shape[-1]
        front = ops.shape(tokens)[1] - height * width
        patches = ops.reshape(tokens[:, front:], (batch, height, width, channels))
        if not self.class_token:
            return patches
        token = ops.broadcast_to(tokens[:, None, :1], (batch, height, width, channels))
        return ops.concatenate([patches, token], axis=-1)

    def compute_mask(self, inputs: list[Any], mask: Any | None = None) -> Any:
        return mask[1] if isinstance(mask, list | tuple) else None

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        tokens, like = input_shape
        channels = tokens[-1] or 0
        return *like[:3], channels * (1 + self.class_token)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "class_token": self.class_token}
