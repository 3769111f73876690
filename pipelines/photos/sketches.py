"""Sketches made like the edge maps of photos, whatever they were drawn with (Radenovic et al. ECCV 2018)."""

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R BT.601
_PAPER = 0.8  # of the way from the darkest to the brightest: what is darker is ink, as published


class NothingDrawnError(ValueError):
    """All pixels of a sketch are alike."""


def sketch_map(pixels: np.ndarray, margin: int) -> np.ndarray:
    """Binarises a line drawing, gives it a margin, and draws its lines anew, all five pixels wide.

    Lines are thinned, widened, thinned again and widened to their final width, as published: strokes that nearly
    touch become one.

    Args:
        pixels: (H, W, 3) uint8: dark lines on light paper, or light lines on dark paper.
        margin: pixels on each side.

    Returns:
        (H + 2 margin, W + 2 margin, 3) uint8: lines of 255 on 0.

    Raises:
        NothingDrawnError: there is no line.
    """
    ink = np.pad(_ink(pixels), margin)
    ink = dilated(thinned(dilated(thinned(ink), 1)), 2)
    return np.repeat(np.where(ink, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)


def is_sketch(pixels: np.ndarray) -> bool:
    """Whether a picture is a line drawing: thin lines on white or black, hardly anything between, no colours.

    Args:
        pixels: (H, W, 3) uint8.
    """
    grey = grey_levels(pixels)
    paper = np.median(grey)
    if 40 < paper < 215 or np.ptp(grey) < 100 or (np.ptp(pixels, axis=2) > 40).mean() > 0.01:
        return False
    darkness = _darkness(pixels)
    between = ((darkness > 0.25) & (darkness < 0.6)).mean()
    ink = darkness > 0.5
    thick = dilated(~ink, round(0.02 * max(ink.shape))).mean()  # what is left when lines lose their width
    return bool(between < 0.1 and ink.mean() < 0.4 and 1 - thick < 0.2 * ink.mean())


def thinned(ink: np.ndarray) -> np.ndarray:
    """Lines of one pixel's width in the middle of thicker ones (Zhang and Suen, CACM 1984).

    Args:
        ink: (H, W) bool; its border counts as paper.

    Returns:
        (H, W) bool.
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
    """(H, W) bool with everything inked that is no farther than `radius` pixels from ink."""
    height, width = ink.shape
    wide = np.pad(ink, radius)
    steps = range(-radius, radius + 1)
    disk = [(down + radius, right + radius) for down in steps for right in steps if down**2 + right**2 <= radius**2]
    return np.any([wide[top : top + height, left : left + width] for top, left in disk], axis=0)


def grey_levels(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to (H, W) float32, 0..255."""
    return pixels.astype(np.float32) @ _LUMA


def _ink(pixels: np.ndarray) -> np.ndarray:
    return _darkness(pixels) > 1 - _PAPER


def _darkness(pixels: np.ndarray) -> np.ndarray:
    """(H, W), 0 for the brightest and 1 for the darkest pixel; the other way round where most of a picture is dark."""
    grey = grey_levels(pixels)
    low, high = grey.min(), grey.max()
    if high - low < 1:
        raise NothingDrawnError("nothing is drawn on it: all its pixels are alike")
    darkness = (high - grey) / (high - low)
    return 1 - darkness if np.median(darkness) > 0.5 else darkness


def _around(ink: np.ndarray) -> list[np.ndarray]:
    """The eight neighbours of all pixels but the border's, clockwise from the one above."""
    height, width = (side - 2 for side in ink.shape)
    starts = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
    return [ink[top : top + height, left : left + width] for top, left in starts]
