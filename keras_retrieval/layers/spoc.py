"""SPoC: sum-pooled convolutional features."""

from typing import Any

import keras

from .cells import Cells
from .pooling import Pooling


@keras.saving.register_keras_serializable("keras_retrieval")
class SPoC(Pooling):
    """Mean of each channel over the map (Babenko and Lempitsky ICCV 2015, without the centre prior).

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) of valid cells.

    Output shape:
        (B, C).

    Example:
        >>> SPoC()(np.random.rand(2, 24, 32, 512)).shape
        (2, 512)
    """

    def pool(self, x: Any, cells: Cells) -> Any:
        return cells.mean(x)
