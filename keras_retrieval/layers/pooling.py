"""The base class of MAC, SPoC and GeM, which reduce a feature map to one value per channel."""

from typing import Any

import keras
from keras import ops

from .cells import AllCells, Cells, zero_masked


class Pooling(keras.layers.Layer):
    """Base class of the poolings that reduce the cells of a feature map to one value per channel.

    A subclass implements `pool`, which the layer calls for whole and padded maps, and `RegionalPooling` for the regions
    of a grid and for boxes. The layer computes in float32 under every dtype policy.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) that is true where a cell is valid.

    Output shape:
        (B, C).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def pool(self, x: Any, cells: Cells) -> Any:
        """Pools feature maps over each region of a set.

        Args:
            x: feature maps, (B, h, w, C) float32.
            cells: the regions, in rows and columns: the whole map, a grid, or boxes.

        Returns:
            One value per region and channel, (B, rows, columns, C) float32.
        """
        raise NotImplementedError

    def call(self, x: Any, mask: Any | None = None) -> Any:
        x = zero_masked(ops.cast(x, "float32"), mask)
        pooled = self.pool(x, AllCells(x, mask))
        return ops.cast(ops.squeeze(pooled, (1, 2)), self.compute_dtype)

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[0], input_shape[-1]
