"""The mean of a feature map behind the trunk's last layer normalisation."""

from typing import Any

import keras
from keras import ops

from .cells import Cells
from .pooling import Pooling


@keras.saving.register_keras_serializable("keras_retrieval")
class NormalizedMean(Pooling):
    """Computes the mean of each channel over the feature map, and a layer normalisation of the means.

    It is what DINOv3's ConvNeXts have in place of a class token, and what the classifiers of ConvNeXts take: their last
    layer normalisation is applied to the mean, not to the cells.

    Args:
        epsilon: is added to the variance.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) that is true for valid cells.

    Output shape:
        (B, C).

    Example:
        >>> NormalizedMean()(np.random.rand(2, 12, 16, 768)).shape
        (2, 768)

    References:
        Siméoni et al.: DINOv3. 2025. Liu et al.: A ConvNet for the 2020s. CVPR 2022.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")
        self.offset = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="offset")

    def pool(self, x: Any, cells: Cells) -> Any:
        x = cells.mean(x)
        mean = ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(x - mean), axis=-1, keepdims=True)
        x = (x - mean) / ops.sqrt(variance + self.epsilon)
        return x * ops.cast(self.scale, x.dtype) + ops.cast(self.offset, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
