"""The cells of a feature map in boxes of any place and shape, such as region proposals."""

from typing import Any

import numpy as np
from keras import ops

from .cells import lowest

_DOUBLINGS = 11  # of a map whose height is not known: 4,095 rows


class BoxCells:
    """Boxes of each photo's own: the cells of which a quarter of a side or more lies in each.

    At a half the edges of anchors, which stand about the centres of cells, would lie on the limit itself, and the last
    bit of a box would decide.

    A maximum is that of two overlapping runs of rows, whose maxima are made once for all boxes (a sparse table), and
    then goes over the columns of each box. The most memory that it takes is that of R x w x C numbers a photo,
    besides the table of as many maps as the rows' number has binary digits.

    Args:
        boxes: (B, R, 4) left, top, right, bottom in cells; each has one cell at the least.
        exist: (B, R), false for boxes that do not exist, whatever stands there.
        size: (h, w) of the map, padding and all.
    """

    def __init__(self, boxes: Any, exist: Any, size: tuple[Any, Any]) -> None:
        self.boxes = boxes
        self.valid = exist[..., None]
        self.size = size
        left, top = (ops.cast(ops.ceil(boxes[..., side] - 0.75), "int32") for side in (0, 1))
        right, bottom = (ops.cast(ops.floor(boxes[..., side] + 0.75), "int32") for side in (2, 3))
        self.rows, self.columns = _at_least_one(top, bottom, size[0]), _at_least_one(left, right, size[1])

    def max(self, x: Any) -> Any:
        """The maximum of (B, h, w, C) in each box, (B, R, 1, C)."""
        inside = _run(*self.columns, self.size[1])
        by_row = _maxima_of_rows(x, *self.rows)
        return ops.max(ops.where(inside[..., None], by_row, lowest(x)), axis=2, keepdims=True)

    def mean(self, x: Any) -> Any:
        """The mean of (B, h, w, C) in each box, (B, R, 1, C)."""
        rows, columns = (
            ops.cast(_run(*ends, side), x.dtype)
            for ends, side in zip((self.rows, self.columns), self.size, strict=True)
        )
        batch, height, width, channels = ops.shape(x)
        by_row = ops.matmul(rows, ops.reshape(x, (batch, height, width * channels)))
        total = ops.matmul(columns[:, :, None], ops.reshape(by_row, (batch, -1, width, channels)))
        return total / (ops.sum(rows, axis=2) * ops.sum(columns, axis=2))[..., None, None]


def _at_least_one(start: Any, end: Any, length: Any) -> tuple[Any, Any]:
    start = ops.minimum(ops.maximum(start, 0), length - 1)
    return start, ops.minimum(ops.maximum(end, start + 1), length)


def _run(start: Any, end: Any, length: Any) -> Any:
    """(B, R, length): true from start (B, R) to before end."""
    position = ops.arange(length, dtype="int32")
    return (position >= start[..., None]) & (position < end[..., None])


def _maxima_of_rows(x: Any, start: Any, end: Any) -> Any:
    """The maxima of the rows start .. end - 1 (B, R) of (B, h, w, C) at every column, (B, R, w, C)."""
    batch, height, width, channels = ops.shape(x)
    doublings = _doublings(height)
    table = [x]  # entry k: at each row the maximum of it and the 2^k - 1 below
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
    """How often a run of one row can be doubled in a map of so many rows, at the most."""
    return height.bit_length() - 1 if isinstance(height, int) else _DOUBLINGS
