"""The cells of a feature map that a value is pooled over: all valid ones, or each region of a grid.

Both kinds answer `max` and `mean` with (B, rows, columns, C), so that a pooling is written once and serves the
whole map (one row, one column) and any grid.
"""

from typing import Any

from keras import ops


def cleared(x: Any, mask: Any | None) -> Any:
    """(B, h, w, C) with 0 in every cell that the mask (B, h, w) leaves out, whatever stood there."""
    return x if mask is None else ops.where(ops.cast(mask, "bool")[..., None], x, ops.zeros_like(x))


class AllCells:
    """All cells of a map, or the valid ones of a padded map.

    Args:
        mask: (B, h, w), true where a cell belongs to the photo; None where all do.
    """

    def __init__(self, mask: Any | None = None) -> None:
        self.mask = None if mask is None else ops.expand_dims(ops.cast(mask, "bool"), -1)

    def max(self, x: Any) -> Any:
        """The maximum of (B, h, w, C) as (B, 1, 1, C)."""
        if self.mask is None:
            return ops.max(x, axis=(1, 2), keepdims=True)
        return ops.max(ops.where(self.mask, x, _lowest(x)), axis=(1, 2), keepdims=True)

    def mean(self, x: Any) -> Any:
        """The mean of (B, h, w, C) as (B, 1, 1, C)."""
        if self.mask is None:
            return ops.mean(x, axis=(1, 2), keepdims=True)
        count = ops.sum(ops.cast(self.mask, x.dtype), axis=(1, 2), keepdims=True)
        total = ops.sum(ops.where(self.mask, x, ops.zeros_like(x)), axis=(1, 2), keepdims=True)
        return total / ops.maximum(count, 1)


class GridCells:
    """The regions of a grid: every interval of rows crossed with every interval of columns.

    Both reductions go over the rows first and the columns next, which is exact for a rectangle and costs a
    few passes over the map however many regions there are.

    Args:
        rows: (R, h) or (B, R, h), true where a row belongs to interval r.
        columns: (S, w) or (B, S, w), the same for columns.
    """

    def __init__(self, rows: Any, columns: Any) -> None:
        self.rows = _batched(rows)
        self.columns = _batched(columns)

    @property
    def valid(self) -> Any:
        """(B or 1, R, S): true where a region has any cell."""
        return ops.expand_dims(ops.any(self.rows, axis=2), 2) & ops.expand_dims(ops.any(self.columns, axis=2), 1)

    def max(self, x: Any) -> Any:
        """The maximum of (B, h, w, C) in each region, (B, R, S, C); of an empty region: the lowest number."""
        rows = self.rows[:, :, :, None, None]
        columns = self.columns[:, None, :, :, None]
        by_row = ops.max(ops.where(rows, x[:, None], _lowest(x)), axis=2)
        return ops.max(ops.where(columns, by_row[:, :, None], _lowest(x)), axis=3)

    def mean(self, x: Any) -> Any:
        """The mean of (B, h, w, C) in each region, (B, R, S, C); of an empty region: 0."""
        rows = ops.cast(self.rows, x.dtype)
        columns = ops.cast(self.columns, x.dtype)
        _, height, width, channels = ops.shape(x)
        flat = ops.reshape(x, (-1, height, width * channels))
        by_row = ops.reshape(ops.matmul(rows, flat), (-1, ops.shape(rows)[1], width, channels))
        total = ops.matmul(columns[:, None], by_row)
        count = ops.sum(rows, axis=2)[:, :, None] * ops.sum(columns, axis=2)[:, None]
        return total / ops.maximum(count, 1)[..., None]


def _batched(intervals: Any) -> Any:
    intervals = ops.cast(intervals, "bool")
    return intervals if len(intervals.shape) == 3 else intervals[None]


def _lowest(x: Any) -> Any:
    # A finite number, not -inf: where's gradient would make NaN of inf - inf.
    return ops.full((), -3.0e38, dtype=x.dtype)
