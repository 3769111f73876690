"""What MAC, SPoC and GeM share: from a feature map to one value per channel."""

from typing import Any

import keras
from keras import ops

from .cells import AllCells, Cells, cleared


class Pooling(keras.layers.Layer):
    """Base of the poolings that reduce a set of cells to one value per channel.

    A subclass writes `pool`; the whole map, a padded map, the regions of a grid and boxes then come of themselves.
    The arithmetic is float32 under every dtype policy.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) that is true where a cell is valid.

    Output shape:
        (B, C).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def pool(self, x: Any, cells: Cells) -> Any:
        """Pools (B, h, w, C) in float32 over `cells` to (B, rows, columns, C)."""
        raise NotImplementedError

    def call(self, x: Any, mask: Any | None = None) -> Any:
        x = cleared(ops.cast(x, "float32"), mask)
        pooled = self.pool(x, AllCells(x, mask))
        return ops.cast(ops.squeeze(pooled, (1, 2)), self.compute_dtype)

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[0], input_shape[-1]
