"""Augmentation of the photos of training tuples: colour jitter, zoom, mirroring and binarised edge maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_retrieval.errors import ArgumentError

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

_SMALLEST_SIDE = 96  # in pixels: a zoom makes no side shorter than this, for which every trunk has a feature map


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the photos of a tuple, drawn each time they are read.

    Attributes:
        strength: the strength of `jitter`; 0 for no jitter.
        zoom: the smallest factor by which `zoomed` scales the sides; 1 for no zoom.
        flip: whether half of the tuples are mirrored, all photos of a tuple alike, so that they still match.
        binarize: half of the queries, which are edge maps, are binarised at a threshold drawn from 0..binarize, so that
            they resemble sketches; 0 for no binarisation.

    Raises:
        ArgumentError: strength or binarize is not in 0..1, or zoom is not in 0.1..1.
    """

    strength: float = 0.0
    zoom: float = 1.0
    flip: bool = False
    binarize: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ArgumentError(f"the strength of augmentation must be in 0..1, got {self.strength}")
        if not 0 <= self.binarize <= 1:
            raise ArgumentError(f"the threshold for binarised edges must be in 0..1, got {self.binarize}")
        if not 0.1 <= self.zoom <= 1:
            raise ArgumentError(f"the zoom of augmentation must be in 0.1..1, got {self.zoom}")

    def of_tuple(self, photos: Sequence[np.ndarray], seed: Sequence[int]) -> list[np.ndarray]:
        """Augments the photos of one tuple.

        Args:
            photos: the photos of the tuple, each (H, W, 3) uint8, the query first.
            seed: random seed of the tuple.

        Returns:
            The changed photos, in order.
        """
        changed = [self(photo, np.random.default_rng([*seed, place])) for place, photo in enumerate(photos)]
        rng = np.random.default_rng([*seed, len(photos)])
        mirrored, drawn, strength = rng.random() < 0.5, rng.random() < 0.5, rng.uniform(0, self.binarize)
        if self.binarize and drawn:
            changed[0] = binarized(changed[0], strength)
        return [photo[:, ::-1] for photo in changed] if self.flip and mirrored else changed

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Zooms and jitters one photo (H, W, 3) uint8; its sides do not become longer."""
        if self.zoom < 1:
            pixels = zoomed(pixels, self.zoom, rng)
        return jitter(pixels, self.strength, rng) if self.strength else pixels


def zoomed(pixels: np.ndarray, least: float, rng: np.random.Generator) -> np.ndarray:
    """Crops a photo, as if taken from nearer, or shrinks it, as if taken from farther away, with equal probability.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.
        least: the smallest factor; the factor on both sides is drawn from least .. 1.
        rng: the random generator that draws the factor, the kind of change and the position of the crop.

    Returns:
        The changed photo, (h, w, 3) uint8.
    """
    from PIL import Image

    share, crop, down, right = rng.uniform(least, 1), rng.random() < 0.5, rng.random(), rng.random()
    height, width = (max(round(side * share), min(side, _SMALLEST_SIDE)) for side in pixels.shape[:2])
    if crop:
        top, left = (
            int(at * (full - kept + 1))
            for at, full, kept in zip((down, right), pixels.shape, (height, width), strict=False)
        )
        return pixels[top : top + height, left : left + width]
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def binarized(edges: np.ndarray, strength: float) -> np.ndarray:
    """Binarises an edge map (H, W, 3) uint8: 255 where it is stronger than `strength` in 0..1, otherwise 0."""
    return np.where(edges > 255 * strength, np.uint8(255), np.uint8(0))


def square(pixels: np.ndarray, side: int, least: float = 1.0, rng: np.random.Generator | None = None) -> np.ndarray:
    """Cuts a square out of a photo and resizes it.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.
        side: the side of the result in pixels.
        least: the smallest side of the square relative to the shorter side of the photo; it is drawn from least .. 1.
        rng: the random generator that draws the side and the position of the square; None for the largest square in the
            centre.

    Returns:
        The square, (side, side, 3) uint8.
    """
    from PIL import Image

    share, *places = (1.0, 0.5, 0.5) if rng is None else (rng.uniform(least, 1), *rng.random(2))
    cut = max(1, round(min(pixels.shape[:2]) * share))
    top, left = (round(place * (full - cut)) for place, full in zip(places, pixels.shape, strict=False))
    part = Image.fromarray(pixels[top : top + cut, left : left + cut])
    return np.asarray(part.resize((side, side), Image.Resampling.LANCZOS))


def jitter(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Changes brightness, contrast and saturation, in this order.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.
        strength: the largest relative change; the three factors are drawn from 1 - strength .. 1 + strength. 0.2 is
            usual.
        rng: the random generator that draws the factors.

    Returns:
        The changed photo, (H, W, 3) uint8.
    """
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    changed = pixels * brightness
    middle = (changed @ _LUMA).mean()
    changed = middle + contrast * (changed - middle)
    grey = (changed @ _LUMA)[..., None]
    changed = grey + saturation * (changed - grey)
    return np.rint(changed).clip(0, 255).astype(np.uint8)
