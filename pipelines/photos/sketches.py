"""Converts sketches to edge maps that resemble those of photos (Radenovic et al. ECCV 2018).

The result does not depend on the width of the pen or on the brightness of the paper.
"""

import numpy as np

from keras_retrieval.errors import RetrievalError

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_PAPER = 0.8  # threshold from the darkest (0) to the brightest (1) pixel: darker pixels are ink, as published


class BlankSketchError(RetrievalError, ValueError):
    """All pixels of a sketch have the same grey level."""


def sketch_map(pixels: np.ndarray, margin: int) -> np.ndarray:
    """Converts a line drawing to an edge map with lines of a width of five pixels, and adds a margin.

    The drawing is binarised. Its lines are then thinned, dilated, thinned again and dilated to their final width, as in
    Radenovic et al. (ECCV 2018). The first dilation merges strokes that nearly touch.

    Args:
        pixels: the drawing, (H, W, 3) uint8, with dark lines on light paper or light lines on dark paper.
        margin: the width of the margin on each side, in pixels.

    Returns:
        The edge map, (H + 2 margin, W + 2 margin, 3) uint8: 255 on lines, otherwise 0.

    Raises:
        BlankSketchError: all pixels have the same grey level.
    """
    ink = np.pad(_ink(pixels), margin)
    ink = dilated(thinned(dilated(thinned(ink), 1)), 2)
    return np.repeat(np.where(ink, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)


def is_sketch(pixels: np.ndarray) -> bool:
    """Returns whether an image is probably a line drawing.

    A line drawing has thin lines on nearly white or black paper, few pixels of intermediate grey levels, and nearly no
    coloured pixels.

    Args:
        pixels: the pixels of the image, (H, W, 3) uint8.
    """
    grey = grey_levels(pixels)
    paper = np.median(grey)
    if 40 < paper < 215 or np.ptp(grey) < 100 or (np.ptp(pixels, axis=2) > 40).mean() > 0.01:
        return False
    darkness = _darkness(pixels)
    between = ((darkness > 0.25) & (darkness < 0.6)).mean()
    ink = darkness > 0.5
    # Paper that is dilated by the width of a line covers everything but thick ink.
    thick = 1 - dilated(~ink, round(0.02 * max(ink.shape))).mean()
    return bool(between < 0.1 and ink.mean() < 0.4 and thick < 0.2 * ink.mean())


def thinned(ink: np.ndarray) -> np.ndarray:
    """Thins lines to a width of one pixel (Zhang and Suen, CACM 1984).

    Args:
        ink: a mask, (H, W) bool, which is true on lines. Pixels beyond the border count as false.

    Returns:
        The thinned lines, (H, W) bool.
    """
    ink = np.pad(ink, 1)
    before = None
    while before is None or (ink != before).any():
        before = ink.copy()
        for first in (True, False):
            around = _around(ink)
            north, east, south, west = around[::2]
            ring = np.stack([*around, north])
            begins = (~ring[:-1] & ring[1:]).sum(axis=0)
            inked = ring[:-1].sum(axis=0)
            a, b = (north & east & south, east & south & west) if first else (north & east & west, north & south & west)
            ink[1:-1, 1:-1] &= ~((begins == 1) & (inked >= 2) & (inked <= 6) & ~a & ~b)
    return ink[1:-1, 1:-1]


def dilated(ink: np.ndarray, radius: int) -> np.ndarray:
    """Dilates a mask by a disk.

    Args:
        ink: the mask, (H, W) bool, which is true on lines. Pixels beyond the border count as false.
        radius: the radius of the disk in pixels.

    Returns:
        The dilated mask, (H, W) bool.
    """
    height, width = ink.shape
    wide = np.pad(ink, radius)
    steps = range(-radius, radius + 1)
    disk = [(down + radius, right + radius) for down in steps for right in steps if down**2 + right**2 <= radius**2]
    return np.any([wide[top : top + height, left : left + width] for top, left in disk], axis=0)


def grey_levels(pixels: np.ndarray) -> np.ndarray:
    """Computes grey levels as the luma of ITU-R BT.601.

    Args:
        pixels: RGB pixels, (H, W, 3) uint8.

    Returns:
        The grey levels, (H, W) float32 in 0..255.
    """
    return pixels.astype(np.float32) @ _LUMA


def _ink(pixels: np.ndarray) -> np.ndarray:
    return _darkness(pixels) > 1 - _PAPER


def _darkness(pixels: np.ndarray) -> np.ndarray:
    """Computes the darkness of pixels, (H, W): 0 for the brightest and 1 for the darkest pixel.

    The values are inverted for an image that is mostly dark.
    """
    grey = grey_levels(pixels)
    low, high = grey.min(), grey.max()
    if high - low < 1:
        raise BlankSketchError("it is blank: all its pixels have one grey level")
    darkness = (high - grey) / (high - low)
    return 1 - darkness if np.median(darkness) > 0.5 else darkness


def _around(ink: np.ndarray) -> list[np.ndarray]:
    """Returns the eight neighbours of all pixels except those on the border, clockwise, the upper neighbour first."""
    height, width = (side - 2 for side in ink.shape)
    starts = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
    return [ink[top : top + height, left : left + width] for top, left in starts]
