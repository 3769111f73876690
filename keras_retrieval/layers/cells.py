"""Regions of a feature map that are pooled: the whole map, the regions of a grid, or arbitrary boxes.

Each kind of region computes `max` and `mean` as (B, rows, columns, C), so that one implementation of a pooling serves
the whole map (one row, one column), grids, and boxes (one column). `valid` (B or 1, rows, columns) is true for regions
that exist; `boxes` (B or 1, R, 4) are their left, top, right, bottom in cells, R = rows x columns.
"""

from typing import Any, Protocol

from keras import ops


class Cells(Protocol):
    """A set of regions to pool over."""

    @property
    def valid(self) -> Any:
        """A mask (B or 1, rows, columns), true for regions with at least one cell."""

    @property
    def boxes(self) -> Any:
        """Left, top, right, bottom of each region in cells, (B or 1, R, 4) float32; R = rows x columns."""

    def max(self, x: Any) -> Any:
        """The maximum of x (B, h, w, C) over each region, (B, rows, columns, C)."""

    def mean(self, x: Any) -> Any:
        """The mean of x (B, h, w, C) over each region, (B, rows, columns, C)."""


def zero_masked(x: Any, mask: Any | None) -> Any:
    """Sets the cells of x (B, h, w, C) where the mask (B, h, w) is false to 0, even if they contain NaN."""
    return x if mask is None else ops.where(ops.cast(mask, "bool")[..., None], x, ops.zeros_like(x))


def valid_size(x: Any, mask: Any | None) -> tuple[Any, Any]:
    """The size (h, w) of a map (B, h, w, C); with a mask (B, h, w), h and w (B,) of the rectangle where it is true."""
    if mask is None:
        height, width = ops.shape(x)[1:3]
        return height, width
    mask = ops.cast(mask, "bool")
    return tuple(ops.sum(ops.cast(ops.any(mask, axis=axis), "int32"), axis=1) for axis in (2, 1))


class AllCells:
    """One region: the whole map, or the valid part of a padded map.

    Args:
        x: the map (B, h, w, C).
        mask: a mask (B, h, w), true where a cell belongs to the photo; None if all cells do.
    """

    def __init__(self, x: Any, mask: Any | None = None) -> None:
        self.mask = None if mask is None else ops.expand_dims(ops.cast(mask, "bool"), -1)
        self.size = valid_size(x, mask)

    @property
    def valid(self) -> Any:
        """A mask (B or 1, 1, 1), true if the photo has a valid cell."""
        return ops.ones((1, 1, 1), "bool") if self.mask is None else ops.any(self.mask, axis=(1, 2))[..., None]

    @property
    def boxes(self) -> Any:
        """The borders of the valid part, (B or 1, 1, 4)."""
        height, width = (ops.reshape(ops.cast(side, "float32"), (-1, 1)) for side in self.size)
        return ops.stack([ops.zeros_like(width), ops.zeros_like(height), width, height], axis=-1)

    def max(self, x: Any) -> Any:
        """The maximum of x (B, h, w, C) over the valid cells, (B, 1, 1, C)."""
        if self.mask is None:
            return ops.max(x, axis=(1, 2), keepdims=True)
        return ops.max(ops.where(self.mask, x, lowest(x)), axis=(1, 2), keepdims=True)

    def mean(self, x: Any) -> Any:
        """The mean of x (B, h, w, C) over the valid cells, (B, 1, 1, C)."""
        if self.mask is None:
            return ops.mean(x, axis=(1, 2), keepdims=True)
        count = ops.sum(ops.cast(self.mask, x.dtype), axis=(1, 2), keepdims=True)
        total = ops.sum(ops.where(self.mask, x, ops.zeros_like(x)), axis=(1, 2), keepdims=True)
        return total / ops.maximum(count, 1)


class GridCells:
    """The regions of a grid: the product of intervals of rows and intervals of columns.

    Both reductions run over the rows first and the columns next, which is exact for rectangles and needs a few passes
    over the map, however many regions there are.

    Args:
        rows: a mask (R, h) or (B, R, h), true where a row belongs to interval r.
        columns: a mask (S, w) or (B, S, w), true where a column belongs to interval s.
    """

    def __init__(self, rows: Any, columns: Any) -> None:
        self.rows = _batched(rows)
        self.columns = _batched(columns)

    @property
    def valid(self) -> Any:
        """A mask (B or 1, R, S), true for regions with at least one cell."""
        return ops.expand_dims(ops.any(self.rows, axis=2), 2) & ops.expand_dims(ops.any(self.columns, axis=2), 1)

    @property
    def boxes(self) -> Any:
        """The boxes of the regions in row-major order, (B or 1, R S, 4); 0 for a region without a cell."""
        top, bottom = (side[:, :, None] for side in _ends(self.rows))
        left, right = (side[:, None, :] for side in _ends(self.columns))
        one = ops.ones_like(top + left)
        sides = ops.stack([left * one, top * one, right * one, bottom * one], axis=-1)
        return ops.reshape(ops.where(self.valid[..., None], sides, 0.0), (ops.shape(sides)[0], -1, 4))

    def max(self, x: Any) -> Any:
        """The maximum of x (B, h, w, C) in each region, (B, R, S, C); the lowest number for an empty region."""
        rows = self.rows[:, :, :, None, None]
        columns = self.columns[:, None, :, :, None]
        by_row = ops.max(ops.where(rows, x[:, None], lowest(x)), axis=2)
        return ops.max(ops.where(columns, by_row[:, :, None], lowest(x)), axis=3)

    def mean(self, x: Any) -> Any:
        """The mean of x (B, h, w, C) in each region, (B, R, S, C); 0 for an empty region."""
        rows = ops.cast(self.rows, x.dtype)
        columns = ops.cast(self.columns, x.dtype)
        _, height, width, channels = ops.shape(x)
        flat = ops.reshape(x, (-1, height, width * channels))
        by_row = ops.reshape(ops.matmul(rows, flat), (-1, ops.shape(rows)[1], width, channels))
        total = ops.matmul(columns[:, None], by_row)
        count = ops.sum(rows, axis=2)[:, :, None] * ops.sum(columns, axis=2)[:, None]
        return total / ops.maximum(count, 1)[..., None]


def _ends(masks: Any) -> tuple[Any, Any]:
    """The first position, and the position after the last, of the run of true in each row: (B, R) float32 each."""
    start = ops.cast(ops.argmax(ops.cast(masks, "int32"), axis=2), "float32")
    return start, start + ops.sum(ops.cast(masks, "float32"), axis=2)


def _batched(intervals: Any) -> Any:
    intervals = ops.cast(intervals, "bool")
    return intervals if len(intervals.shape) == 3 else intervals[None]


def lowest(x: Any) -> Any:
    """A finite scalar of x's dtype below every activation, the identity of `max`."""
    # Not -inf: the gradient of `where` would contain inf - inf, which is NaN.
    return ops.full((), -3.0e38, dtype=x.dtype)
