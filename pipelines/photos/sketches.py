"""Sketches converted to edge maps like those of photos, independent of pen and paper (Radenovic et al. ECCV 2018)."""

import numpy as np

from keras_retrieval.errors import RetrievalError

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_PAPER = 0.8  # threshold from the darkest (0) to the brightest (1) pixel: darker pixels are ink, as published


class BlankSketchError(RetrievalError, ValueError):
    """All pixels of a sketch have the same grey level."""


def sketch_map(pixels: np.ndarray, margin: int) -> np.ndarray:
    """Binarises a line drawing, adds a margin, and redraws its lines with a width of five pixels.

    Lines are thinned, dilated, thinned again and dilated to their final width, as published; strokes that nearly touch
    are merged.

    Args:
        pixels: the drawing, (H, W, 3) uint8: dark lines on light paper, or light lines on dark paper.
        margin: width of the margin on each side, in pixels.

    Returns:
        The edge map, (H + 2 margin, W + 2 margin, 3) uint8: lines of 255 on 0.

    Raises:
        BlankSketchError: the drawing is blank.
    """
    ink = np.pad(_ink(pixels), margin)
    ink = dilated(thinned(dilated(thinned(ink), 1)), 2)
    return np.repeat(np.where(ink, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)


def is_sketch(pixels: np.ndarray) -> bool:
    """Whether a picture is a line drawing: thin lines on white or black, few grey levels between, no colours.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.
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
        ink: a mask (H, W) bool, true for ink; pixels beyond the border count as paper.

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
    """Dilates ink (H, W) bool by a disk of `radius` pixels."""
    height, width = ink.shape
    wide = np.pad(ink, radius)
    steps = range(-radius, radius + 1)
    disk = [(down + radius, right + radius) for down in steps for right in steps if down**2 + right**2 <= radius**2]
    return np.any([wide[top : top + height, left : left + width] for top, left in disk], axis=0)


def grey_levels(pixels: np.ndarray) -> np.ndarray:
    """Computes the luma of pixels (H, W, 3) uint8: (H, W) float32, 0..255."""
    return pixels.astype(np.float32) @ _LUMA


def _ink(pixels: np.ndarray) -> np.ndarray:
    return _darkness(pixels) > 1 - _PAPER


def _darkness(pixels: np.ndarray) -> np.ndarray:
    """(H, W), 0 for the brightest and 1 for the darkest pixel; inverted for a picture that is mostly dark."""
    grey = grey_levels(pixels)
    low, high = grey.min(), grey.max()
    if high - low < 1:
        raise BlankSketchError("it is blank: all its pixels have one grey level")
    darkness = (high - grey) / (high - low)
    return 1 - darkness if np.median(darkness) > 0.5 else darkness


def _around(ink: np.ndarray) -> list[np.ndarray]:
    """The eight neighbours of each pixel that is not on the border, clockwise from the one above."""
    height, width = (side - 2 for side in ink.shape)
    starts = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
    return [ink[top : top + height, left : left + width] for top, left in starts]
