"""The rigid grid of R-MAC (Tolias et al. ICLR 2016): square regions at L scales.

Neighbouring regions of a scale overlap by about 40 %. All arithmetic is on integers, and therefore exact.
Floating-point arithmetic would displace a region by one cell if the start of the region is nearly an integer, or if two
grids are nearly equally good. In float64 this happens for 42 of the 4,489 sizes up to 67 x 67, and in float32 for other
sizes.
"""

from typing import Any

import numpy as np
from keras import ops

MAX_EXTRA = 6  # the long side of a grid has at most six regions more than the short side


def max_regions(levels: int) -> int:
    """Returns the largest number of regions of a grid with `levels` levels, over all sizes of the feature map."""
    return sum(level * (level + MAX_EXTRA) for level in range(1, levels + 1))


def region_masks(height: Any, width: Any, level: int, cells: tuple[Any, Any]) -> tuple[Any, Any]:
    """Computes the rows and columns of cells that belong to the regions of one level of the grid, as masks.

    The grid of a level is the product of R intervals of rows and S intervals of columns.

    Args:
        height: the height h of the valid part of the feature map in cells: an int, a scalar tensor, or a tensor (B,)
            with one height per photo.
        width: the width w of the valid part, in the same form.
        level: the level l, at least 1; the side of a region is floor(2 min(h, w) / (l + 1)) cells.
        cells: the height H and width W of the feature map including padding, which are the lengths of the masks.

    Returns:
        The mask of the rows in each interval, (R, H) or (B, R, H) bool, and the mask of the columns, (S, W) or
        (B, S, W) bool. If `height` and `width` apply to the whole batch, R and S are the numbers of intervals of the
        grid. With one size per photo, R and S are level + 6, and the masks of surplus intervals are all false. If the
        side of a region would be 0 cells, all masks are false.
    """
    xp = np if isinstance(height, int) and isinstance(width, int) else ops
    if xp is ops:  # one of the two may be an int, of a map of which only one side is known
        height, width = (ops.convert_to_tensor(side, "int32") for side in (height, width))
    extra_rows, extra_columns = _extra_steps(height, width, xp)
    side = 2 * xp.minimum(height, width) // (level + 1)
    rows = _intervals(height, side, level + extra_rows, level, cells[0], xp)
    columns = _intervals(width, side, level + extra_columns, level, cells[1], xp)
    return rows, columns


def _extra_steps(height: Any, width: Any, xp: Any) -> tuple[Any, Any]:
    """Computes how many more regions than the level number there are along the height, and along the width."""
    short, long = xp.minimum(height, width), xp.maximum(height, width)
    steps = np.arange(1, MAX_EXTRA + 1, dtype="int32")
    # |(s^2 - s b) / s^2 - 0.4| with b = (long - s) / steps, multiplied by 5 s and by 60: integers.
    spread = xp.expand_dims(long - short, -1)
    cost = abs(3 * xp.expand_dims(short, -1) * steps - 5 * spread) * (60 // steps)
    best = xp.argmin(cost, axis=-1)
    extra = best + 1 if xp is np else ops.cast(best, "int32") + 1
    none = xp.zeros_like(extra)
    return xp.where(height > width, extra, none), xp.where(width > height, extra, none)


def _intervals(length: Any, side: Any, count: Any, level: int, cells: Any, xp: Any) -> Any:
    """Makes masks (count, cells) or (B, level + 6, cells) of `count` equally spaced intervals of `side` cells."""
    one_size = len(np.shape(length) if xp is np else length.shape) == 0
    number = count if one_size else level + MAX_EXTRA
    index = xp.arange(number, dtype="int32")
    spread, gaps = xp.expand_dims(length - side, -1), xp.expand_dims(xp.maximum(count - 1, 1), -1)
    start = xp.expand_dims(index * spread // gaps, -1)
    position = xp.arange(cells, dtype="int32")
    inside = (position >= start) & (position < start + xp.expand_dims(side, (-2, -1)))
    return inside & xp.expand_dims(index < xp.expand_dims(count, -1), -1)
