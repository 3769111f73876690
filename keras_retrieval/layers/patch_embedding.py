"""The first layer of a vision transformer: each patch of the photo becomes one vector."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("keras_retrieval")
class PatchEmbedding(keras.layers.Conv2D):
    """Maps each patch of a photo to a vector: a convolution whose stride is the size of its kernel.

    Args:
        width: number of channels of the output.
        patch: side of a patch in pixels.

    Input shape:
        (B, H, W, C), with an optional `mask` (B, H, W) that is true for valid pixels.

    Output shape:
        (B, H // patch, W // patch, width). A patch is valid if all its pixels are.

    Example:
        >>> PatchEmbedding(384, 14)(np.zeros((1, 224, 280, 3))).shape
        (1, 16, 20, 384)

    References:
        Dosovitskiy et al.: An Image is Worth 16x16 Words. ICLR 2021.
    """

    def __init__(self, width: int, patch: int, **kwargs: Any) -> None:
        super().__init__(width, patch, strides=patch, **kwargs)
        self.width = width
        self.patch = patch
        self.supports_masking = True

    def compute_mask(self, x: Any, mask: Any | None = None) -> Any:
        # The last pixel of a patch, as a patch that the photo covers only in part is none of it.
        return None if mask is None else mask[:, self.patch - 1 :: self.patch, self.patch - 1 :: self.patch]

    def get_config(self) -> dict[str, Any]:
        base = keras.layers.Layer.get_config(self)
        return {**base, "width": self.width, "patch": self.patch}
