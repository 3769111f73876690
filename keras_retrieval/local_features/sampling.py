"""Samples feature maps at keypoints, as PyTorch's grid_sample does with zeros outside of the map."""

from typing import Any

import numpy as np
from keras import ops

CUBIC = -0.75
"""The coefficient of PyTorch's bicubic interpolation (Keys, IEEE TASSP 1981, in which it is -0.5)."""


def on_map(positions: Any, pixels: Any, cells: Any) -> Any:
    """Converts positions along one side of a photo to positions along the same side of its feature map.

    A position of 0 is the centre of the first pixel, and the positions 0 and `pixels` - 1 are mapped to the borders of
    the map, which are half a cell before the centre of its first cell and after that of its last (`align_corners=False`
    after a normalisation by `pixels` - 1, as XFeat samples its maps).

    Args:
        positions: positions in pixels, any shape, float32.
        pixels: length of the side in pixels.
        cells: length of the side of the map in cells.

    Returns:
        Positions in cells, where 0 is the centre of the first cell; of the shape of `positions`.
    """
    normalized = 2.0 * (positions / ops.cast(pixels - 1, "float32")) - 1.0
    return ((normalized + 1.0) * ops.cast(cells, "float32") - 1.0) / 2.0


def bilinear_matrix(pixels: Any, cells: Any) -> Any:
    """Computes the weights by which a side of a feature map is enlarged to that of the photo, see `on_map`.

    Args:
        pixels: length of the side of the photo.
        cells: length of the side of the feature map.

    Returns:
        Weights (pixels, cells), float32, of bilinear interpolation. Cells outside of the map count as zero, so that the
        weights of the pixels at both ends add up to less than 1.
    """
    places = on_map(ops.cast(ops.arange(pixels), "float32"), pixels, cells)
    distance = ops.abs(places[:, None] - ops.cast(ops.arange(cells), "float32")[None, :])
    return ops.maximum(1.0 - distance, 0.0)


def sample_bicubic(maps: Any, x: Any, y: Any) -> Any:
    """Samples feature maps at positions by bicubic interpolation over 4 x 4 cells; cells outside count as zero.

    Args:
        maps: feature maps, (B, h, w, C).
        x: horizontal positions in cells, (B, K), where 0 is the centre of the first column.
        y: vertical positions in cells, (B, K).

    Returns:
        The samples, (B, K, C).
    """
    batch, height, width, channels = (ops.shape(maps)[axis] for axis in range(4))
    cells = ops.reshape(maps, (-1, channels))
    photo = ops.arange(batch, dtype="int32")[:, None, None] * (height * width)
    columns, across = _taps(x, width)
    rows, down = _taps(y, height)
    total = 0.0
    for tap in range(4):
        places = photo + rows[:, :, tap, None] * width + columns
        taken = ops.take(cells, places, axis=0)
        weights = across * down[:, :, tap, None]
        total = total + ops.sum(taken * weights[..., None], axis=2)
    return total


def _taps(places: Any, cells: Any) -> tuple[Any, Any]:
    """The four cells around each position, (B, K, 4) int32, and their weights, which are zero outside of the map."""
    first = ops.floor(places)
    distance = places - first
    steps = np.arange(-1, 3)
    taps = ops.cast(first, "int32")[..., None] + steps.astype("int32")
    inside = ops.logical_and(taps >= 0, taps < cells)
    weights = ops.stack([_far(distance + 1.0), _near(distance), _near(1.0 - distance), _far(2.0 - distance)], axis=-1)
    return ops.clip(taps, 0, cells - 1), weights * ops.cast(inside, weights.dtype)


def _near(distance: Any) -> Any:
    """The weight of a cell at a distance of at most 1."""
    return ((CUBIC + 2.0) * distance - (CUBIC + 3.0)) * distance * distance + 1.0


def _far(distance: Any) -> Any:
    """The weight of a cell at a distance from 1 to 2."""
    return ((CUBIC * distance - 5.0 * CUBIC) * distance + 8.0 * CUBIC) * distance - 4.0 * CUBIC
