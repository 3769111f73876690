"""The cells of a feature map that a value is pooled over: all valid ones, each region of a grid, or boxes.

All kinds answer `max` and `mean` with (B, rows, columns, C), so that a pooling is written once and serves the
whole map (one row, one column), any grid, and any boxes (one column). `valid` (B or 1, rows, columns) says which of
them exist, and `boxes` (B or 1, R, 4) where they lie: left, top, right, bottom in cells, R = rows x columns.
"""

from typing import Any, Protocol

from keras import ops


class Cells(Protocol):
    """What a pooling pools over."""

    @property
    def valid(self) -> Any:
        """(B or 1, rows, columns): true where there is a cell."""

    @property
    def boxes(self) -> Any:
        """(B or 1, R, 4) float32: left, top, right, bottom in cells; R = rows x columns."""

    def max(self, x: Any) -> Any:
        """The maximum of (B, h, w, C) over each, (B, rows, columns, C)."""

    def mean(self, x: Any) -> Any:
        """The mean of (B, h, w, C) over each, (B, rows, columns, C)."""


def cleared(x: Any, mask: Any | None) -> Any:
    """(B, h, w, C) with 0 in every cell that the mask (B, h, w) leaves out, whatever stood there."""
    return x if mask is None else ops.where(ops.cast(mask, "bool")[..., None], x, ops.zeros_like(x))


def valid_size(x: Any, mask: Any | None) -> tuple[Any, Any]:
    """h and w of a map (B, h, w, C), or (B,) each of the rectangle of cells that the mask (B, h, w) leaves."""
    if mask is None:
        height, width = ops.shape(x)[1:3]
        return height, width
    mask = ops.cast(mask, "bool")
    return tuple(ops.sum(ops.cast(ops.any(mask, axis=axis), "int32"), axis=1) for axis in (2, 1))


class AllCells:
    """All cells of a map, or the valid ones of a padded map.

    Args:
        x: the map (B, h, w, C).
        mask: (B, h, w), true where a cell belongs to the photo; None where all do.
    """

    def __init__(self, x: Any, mask: Any | None = None) -> None:
        self.mask = None if mask is None else ops.expand_dims(ops.cast(mask, "bool"), -1)
        self.size = valid_size(x, mask)

    @property
    def valid(self) -> Any:
        """(B or 1, 1, 1): true where there is a cell."""
        return ops.ones((1, 1, 1), "bool") if self.mask is None else ops.any(self.mask, axis=(1, 2))[..., None]

    @property
    def boxes(self) -> Any:
        """(B or 1, 1, 4): the map's own borders."""
        height, width = (ops.reshape(ops.cast(side, "float32"), (-1, 1)) for side in self.size)
        return ops.stack([ops.zeros_like(width), ops.zeros_like(height), width, height], axis=-1)

    def max(self, x: Any) -> Any:
        """The maximum of (B, h, w, C) as (B, 1, 1, C)."""
        if self.mask is None:
            return ops.max(x, axis=(1, 2), keepdims=True)
        return ops.max(ops.where(self.mask, x, lowest(x)), axis=(1, 2), keepdims=True)

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

    @property
    def boxes(self) -> Any:
        """(B or 1, R S, 4): of the regions, row by row; 0 for a region without a cell."""
        top, bottom = (side[:, :, None] for side in _ends(self.rows))
        left, right = (side[:, None, :] for side in _ends(self.columns))
        one = ops.ones_like(top + left)
        sides = ops.stack([left * one, top * one, right * one, bottom * one], axis=-1)
        return ops.reshape(ops.where(self.valid[..., None], sides, 0.0), (ops.shape(sides)[0], -1, 4))

    def max(self, x: Any) -> Any:
        """The maximum of (B, h, w, C) in each region, (B, R, S, C); of an empty region: the lowest number."""
        rows = self.rows[:, :, :, None, None]
        columns = self.columns[:, None, :, :, None]
        by_row = ops.max(ops.where(rows, x[:, None], lowest(x)), axis=2)
        return ops.max(ops.where(columns, by_row[:, :, None], lowest(x)), axis=3)

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


def _ends(masks: Any) -> tuple[Any, Any]:
    """Where runs of true (B, R, n) begin and end, (B, R) float32 each."""
    start = ops.cast(ops.argmax(ops.cast(masks, "int32"), axis=2), "float32")
    return start, start + ops.sum(ops.cast(masks, "float32"), axis=2)


def _batched(intervals: Any) -> Any:
    intervals = ops.cast(intervals, "bool")
    return intervals if len(intervals.shape) == 3 else intervals[None]


def lowest(x: Any) -> Any:
    """A number below all of a map's, of its type."""
    # A finite number, not -inf: where's gradient would make NaN of inf - inf.
    return ops.full((), -3.0e38, dtype=x.dtype)
