"""Regions over which a feature map is pooled: the whole map, the regions of a grid, or arbitrary boxes.

Each kind of region implements the protocol `Cells`. Its results `max` and `mean` have the shape (B, rows, columns, C),
so that one implementation of a pooling works for the whole map (one row, one column), for grids, and for boxes (one
column). A first axis "B or 1" has length 1 if all photos of the batch have the same regions.
"""

from typing import Any, Protocol

from keras import ops


class Cells(Protocol):
    """Protocol of the sets of regions over which a `Pooling` layer pools a feature map.

    The regions of a photo are arranged in rows and columns; R = rows x columns is their number. The implementations are
    `AllCells`, `GridCells` and `box_cells.BoxCells`.
    """

    @property
    def valid(self) -> Any:
        """A mask (B or 1, rows, columns) bool, true for regions with at least one cell."""

    @property
    def boxes(self) -> Any:
        """Left, top, right, bottom of each region in cells, (B or 1, R, 4) float32, with R = rows x columns."""

    def max(self, x: Any) -> Any:
        """Computes the maximum of feature maps x (B, h, w, C) over each region, (B, rows, columns, C)."""

    def mean(self, x: Any) -> Any:
        """Computes the mean of feature maps x (B, h, w, C) over each region, (B, rows, columns, C)."""


def zero_masked(x: Any, mask: Any | None) -> Any:
    """Sets the cells of a feature map where the mask is false to 0, even if they contain NaN.

    Args:
        x: feature maps, (B, h, w, C).
        mask: a mask (B, h, w), true for valid cells; with None, `x` is returned unchanged.

    Returns:
        The feature maps, (B, h, w, C).
    """
    return x if mask is None else ops.where(ops.cast(mask, "bool")[..., None], x, ops.zeros_like(x))


def valid_size(x: Any, mask: Any | None) -> tuple[Any, Any]:
    """Returns the height and width of the valid part of feature maps.

    Args:
        x: feature maps, (B, h, w, C).
        mask: a mask (B, h, w), true on a rectangle of valid cells; None if all cells are valid.

    Returns:
        Height and width in cells: with a mask two int32 tensors (B,), without one two integers or scalar tensors.
    """
    if mask is None:
        height, width = ops.shape(x)[1:3]
        return height, width
    mask = ops.cast(mask, "bool")
    return tuple(ops.sum(ops.cast(ops.any(mask, axis=axis), "int32"), axis=1) for axis in (2, 1))


class AllCells:
    """A single region for each photo: the whole feature map, or the valid part of a padded one; see `Cells`.

    Args:
        x: feature maps, (B, h, w, C).
        mask: a mask (B, h, w), true for cells that belong to the photo; None if all cells belong to it.
    """

    def __init__(self, x: Any, mask: Any | None = None) -> None:
        self.mask = None if mask is None else ops.expand_dims(ops.cast(mask, "bool"), -1)
        self.size = valid_size(x, mask)

    @property
    def valid(self) -> Any:
        """A mask (B or 1, 1, 1) bool, true if the photo has at least one valid cell."""
        return ops.ones((1, 1, 1), "bool") if self.mask is None else ops.any(self.mask, axis=(1, 2))[..., None]

    @property
    def boxes(self) -> Any:
        """Left, top, right, bottom of the valid part in cells, (B or 1, 1, 4) float32; left and top are 0."""
        height, width = (ops.reshape(ops.cast(side, "float32"), (-1, 1)) for side in self.size)
        return ops.stack([ops.zeros_like(width), ops.zeros_like(height), width, height], axis=-1)

    def max(self, x: Any) -> Any:
        """Computes the maximum of feature maps x (B, h, w, C) over the valid cells, (B, 1, 1, C)."""
        if self.mask is None:
            return ops.max(x, axis=(1, 2), keepdims=True)
        return ops.max(ops.where(self.mask, x, lowest(x)), axis=(1, 2), keepdims=True)

    def mean(self, x: Any) -> Any:
        """Computes the mean of feature maps x (B, h, w, C) over the valid cells, (B, 1, 1, C); 0 without valid cell."""
        if self.mask is None:
            return ops.mean(x, axis=(1, 2), keepdims=True)
        count = ops.sum(ops.cast(self.mask, x.dtype), axis=(1, 2), keepdims=True)
        total = ops.sum(ops.where(self.mask, x, ops.zeros_like(x)), axis=(1, 2), keepdims=True)
        return total / ops.maximum(count, 1)


class GridCells:
    """The R x S rectangular regions of a grid, given by R intervals of rows and S intervals of columns; see `Cells`.

    `max` and `mean` reduce the feature map over the rows first and over the columns next. This is exact because the
    regions are rectangles, and the number of passes over the map does not depend on the number of regions.

    Args:
        rows: a mask (R, h) or (B, R, h), true where a row of cells belongs to interval r.
        columns: a mask (S, w) or (B, S, w), true where a column of cells belongs to interval s.
    """

    def __init__(self, rows: Any, columns: Any) -> None:
        self.rows = _batched(rows)
        self.columns = _batched(columns)

    @property
    def valid(self) -> Any:
        """A mask (B or 1, R, S) bool, true for regions with at least one cell."""
        return ops.expand_dims(ops.any(self.rows, axis=2), 2) & ops.expand_dims(ops.any(self.columns, axis=2), 1)

    @property
    def boxes(self) -> Any:
        """Left, top, right, bottom of the regions in cells, (B or 1, R x S, 4) float32; 0 for a region without a cell.

        The regions are in row-major order: all S regions of the first interval of rows come first.
        """
        top, bottom = (side[:, :, None] for side in _ends(self.rows))
        left, right = (side[:, None, :] for side in _ends(self.columns))
        one = ops.ones_like(top + left)
        sides = ops.stack([left * one, top * one, right * one, bottom * one], axis=-1)
        return ops.reshape(ops.where(self.valid[..., None], sides, 0.0), (ops.shape(sides)[0], -1, 4))

    def max(self, x: Any) -> Any:
        """Computes the maximum of feature maps x (B, h, w, C) over each region, (B, R, S, C).

        For a region without a cell the result is the value of `lowest`, -3e38.
        """
        rows = self.rows[:, :, :, None, None]
        columns = self.columns[:, None, :, :, None]
        by_row = ops.max(ops.where(rows, x[:, None], lowest(x)), axis=2)
        return ops.max(ops.where(columns, by_row[:, :, None], lowest(x)), axis=3)

    def mean(self, x: Any) -> Any:
        """Computes the mean of feature maps x (B, h, w, C) over each region, (B, R, S, C); 0 without a cell."""
        rows = ops.cast(self.rows, x.dtype)
        columns = ops.cast(self.columns, x.dtype)
        _, height, width, channels = ops.shape(x)
        flat = ops.reshape(x, (-1, height, width * channels))
        by_row = ops.reshape(ops.matmul(rows, flat), (-1, ops.shape(rows)[1], width, channels))
        total = ops.matmul(columns[:, None], by_row)
        count = ops.sum(rows, axis=2)[:, :, None] * ops.sum(columns, axis=2)[:, None]
        return total / ops.maximum(count, 1)[..., None]


def _ends(masks: Any) -> tuple[Any, Any]:
    """Returns the start and the end of the interval of true values in each row of masks, two float32 (B, R)."""
    start = ops.cast(ops.argmax(ops.cast(masks, "int32"), axis=2), "float32")
    return start, start + ops.sum(ops.cast(masks, "float32"), axis=2)


def _batched(intervals: Any) -> Any:
    intervals = ops.cast(intervals, "bool")
    return intervals if len(intervals.shape) == 3 else intervals[None]


def lowest(x: Any) -> Any:
    """Returns a scalar tensor -3e38 of x's dtype, which is below every activation and serves as minus infinity."""
    # Not -inf: the gradient of `where` would contain inf - inf, which is NaN.
    return ops.full((), -3.0e38, dtype=x.dtype)
