"""Reductions of a feature map over arbitrary boxes, such as region proposals."""

from typing import Any

import numpy as np
from keras import ops

from .cells import lowest

_DOUBLINGS = 11  # table levels for a map of unknown height: enough for 4,095 rows


class BoxCells:
    """Computes the maximum and the mean of a feature map over R boxes of each photo, as the protocol `cells.Cells`.

    A cell belongs to a box if the box covers at least a quarter of the cell's width and a quarter of its height. The
    threshold is a quarter instead of a half because anchors are centred on cells. With a half, the edges of many
    anchors would lie exactly on the threshold, so that rounding errors would decide.

    The maximum over consecutive rows is the maximum of two overlapping intervals whose lengths are powers of two. The
    maxima of such intervals are computed once for all boxes (a sparse table). The maximum over the columns is then
    computed for each box. For a map of h x w cells with C channels, the peak memory is R x w x C numbers per photo,
    and log2(h) + 1 copies of the map for the table.

    Args:
        boxes: left, top, right, bottom of each box in cells, (B, R, 4). A box that covers no cell by the rule above
            gets one cell.
        exist: a mask (B, R), false for entries of `boxes` that are ignored.
        size: the size (h, w) of the feature map in cells, including padding.
    """

    def __init__(self, boxes: Any, exist: Any, size: tuple[Any, Any]) -> None:
        self.boxes = boxes
        self.valid = exist[..., None]
        self.size = size
        left, top = (ops.cast(ops.ceil(boxes[..., side] - 0.75), "int32") for side in (0, 1))
        right, bottom = (ops.cast(ops.floor(boxes[..., side] + 0.75), "int32") for side in (2, 3))
        self.rows, self.columns = _nonempty(top, bottom, size[0]), _nonempty(left, right, size[1])

    def max(self, x: Any) -> Any:
        """Computes the maximum of feature maps x (B, h, w, C) over each box, (B, R, 1, C)."""
        inside = _interval(*self.columns, self.size[1])
        by_row = _maxima_of_rows(x, *self.rows)
        return ops.max(ops.where(inside[..., None], by_row, lowest(x)), axis=2, keepdims=True)

    def mean(self, x: Any) -> Any:
        """Computes the mean of feature maps x (B, h, w, C) over each box, (B, R, 1, C)."""
        rows, columns = (
            ops.cast(_interval(*ends, side), x.dtype)
            for ends, side in zip((self.rows, self.columns), self.size, strict=True)
        )
        batch, height, width, channels = ops.shape(x)
        by_row = ops.matmul(rows, ops.reshape(x, (batch, height, width * channels)))
        total = ops.matmul(columns[:, :, None], ops.reshape(by_row, (batch, -1, width, channels)))
        return total / (ops.sum(rows, axis=2) * ops.sum(columns, axis=2))[..., None, None]


def _nonempty(start: Any, end: Any, length: Any) -> tuple[Any, Any]:
    start = ops.minimum(ops.maximum(start, 0), length - 1)
    return start, ops.minimum(ops.maximum(end, start + 1), length)


def _interval(start: Any, end: Any, length: Any) -> Any:
    """Makes masks (B, R, length) that are true at positions start <= i < end, for `start` and `end` of (B, R)."""
    position = ops.arange(length, dtype="int32")
    return (position >= start[..., None]) & (position < end[..., None])


def _maxima_of_rows(x: Any, start: Any, end: Any) -> Any:
    """Computes the maximum of x (B, h, w, C) over rows start <= i < end in every column, (B, R, w, C).

    Args:
        x: feature maps, (B, h, w, C).
        start: the first row of each box, (B, R).
        end: the row after the last row of each box, (B, R).
    """
    batch, height, width, channels = ops.shape(x)
    doublings = _doublings(height)
    table = [x]  # entry k: for each row, the maximum over it and the next 2^k - 1 rows
    for k in range(doublings):
        below = ops.minimum(ops.arange(height, dtype="int32") + 2**k, height - 1)
        table.append(ops.maximum(table[-1], ops.take(table[-1], below, axis=1)))
    powers, length = 2 ** np.arange(doublings + 1, dtype="int32"), end - start
    k = ops.sum(ops.cast(length[..., None] >= powers[1:], "int32"), axis=-1)
    runs = ops.reshape(ops.stack(table, axis=1), (-1, width, channels))
    first = (ops.arange(batch, dtype="int32")[:, None] * (doublings + 1) + k) * height
    last = end - ops.take(powers, k)
    return ops.maximum(ops.take(runs, first + start, axis=0), ops.take(runs, first + last, axis=0))


def _doublings(height: Any) -> int:
    """Returns floor(log2(height)), or `_DOUBLINGS` if the height is unknown when the graph is built."""
    return height.bit_length() - 1 if isinstance(height, int) else _DOUBLINGS
