"""MAC: maximum activations of convolutions."""

from typing import Any

import keras

from .cells import Cells
from .pooling import Pooling


@keras.saving.register_keras_serializable("keras_retrieval")
class MAC(Pooling):
    """Computes the maximum of each channel over the feature map.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) that is true for valid cells.

    Output shape:
        (B, C).

    Example:
        >>> MAC()(np.random.rand(2, 24, 32, 512)).shape
        (2, 512)

    References:
        Tolias, Sicre, Jegou: Particular Object Retrieval with Integral Max-Pooling of CNN Activations. ICLR 2016.
    """

    def pool(self, x: Any, cells: Cells) -> Any:
        return cells.max(x)
