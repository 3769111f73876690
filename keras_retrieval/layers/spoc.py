"""SPoC: sum-pooled convolutional features."""

from typing import Any

import keras

from .cells import Cells
from .pooling import Pooling


@keras.saving.register_keras_serializable("keras_retrieval")
class SPoC(Pooling):
    """Computes the mean of each channel over the feature map, without the centre prior of the paper.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) that is true for valid cells.

    Output shape:
        (B, C).

    Example:
        >>> SPoC()(np.random.rand(2, 24, 32, 512)).shape
        (2, 512)

    References:
        Babenko, Lempitsky: Aggregating Deep Convolutional Features for Image Retrieval. ICCV 2015.
    """

    def pool(self, x: Any, cells: Cells) -> Any:
        return cells.mean(x)
