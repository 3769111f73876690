"""Augmentation: what another camera, another hour, another distance or another hand would have made of a photo."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R BT.601

_LEAST_SIDE = 96  # a zoom leaves so many pixels of a side that has them: every trunk has a feature map there


@dataclass(frozen=True)
class Augmentation:
    """What is done to the photos of a tuple each time they are read.

    Attributes:
        strength: of `jitter`; 0 for none.
        zoom: the least share of the sides that `zoomed` leaves; 1 for none.
        flip: half of the tuples are mirrored, all photos of one alike, so that they still match.
        binarize: half of the queries are `binarized` at a strength of 0..binarize, to be like sketches; 0 for none.

    Raises:
        ValueError: strength or binarize does not lie in 0..1, or zoom not in 0.1..1.
    """

    strength: float = 0.0
    zoom: float = 1.0
    flip: bool = False
    binarize: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"the strength of augmentation lies in 0..1, not {self.strength}")
        if not 0 <= self.binarize <= 1:
            raise ValueError(f"the strength at which edges are binarised lies in 0..1, not {self.binarize}")
        if not 0.1 <= self.zoom <= 1:
            raise ValueError(f"the zoom of augmentation lies in 0.1..1, not {self.zoom}")

    def of_tuple(self, photos: Sequence[np.ndarray], seed: Sequence[int]) -> list[np.ndarray]:
        """The photos of a tuple, the query first, each (H, W, 3) uint8, changed.

        Args:
            photos: of one tuple.
            seed: of all that is drawn for it.
        """
        changed = [self(photo, np.random.default_rng([*seed, place])) for place, photo in enumerate(photos)]
        rng = np.random.default_rng([*seed, len(photos)])
        mirrored, drawn, strength = rng.random() < 0.5, rng.random() < 0.5, rng.uniform(0, self.binarize)
        if self.binarize and drawn:
            changed[0] = binarized(changed[0], strength)
        return [photo[:, ::-1] for photo in changed] if self.flip and mirrored else changed

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The photo (H, W, 3) uint8, changed; its sides are never longer."""
        if self.zoom < 1:
            pixels = zoomed(pixels, self.zoom, rng)
        return jitter(pixels, self.strength, rng) if self.strength else pixels


def zoomed(pixels: np.ndarray, least: float, rng: np.random.Generator) -> np.ndarray:
    """Crops a photo, as if taken from nearer, or shrinks it, as if from farther away, with equal chances.

    Args:
        pixels: (H, W, 3) uint8.
        least: both sides keep a share that is drawn from least .. 1.
        rng: draws the share, which of the two, and where the crop lies.

    Returns:
        (h, w, 3) uint8.
    """
    from PIL import Image

    share, crop, down, right = rng.uniform(least, 1), rng.random() < 0.5, rng.random(), rng.random()
    height, width = (max(round(side * share), min(side, _LEAST_SIDE)) for side in pixels.shape[:2])
    if crop:
        top, left = (
            int(at * (full - kept + 1))
            for at, full, kept in zip((down, right), pixels.shape, (height, width), strict=False)
        )
        return pixels[top : top + height, left : left + width]
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def binarized(edges: np.ndarray, strength: float) -> np.ndarray:
    """An edge map (H, W, 3) uint8 whose edges stronger than `strength`, 0..1, become 255 and all else 0."""
    return np.where(edges > 255 * strength, np.uint8(255), np.uint8(0))


def square(pixels: np.ndarray, side: int, least: float = 1.0, rng: np.random.Generator | None = None) -> np.ndarray:
    """Cuts a square out of a photo and resizes it.

    Args:
        pixels: (H, W, 3) uint8.
        side: of what is returned, in pixels.
        least: the square's share of the shorter side is drawn from least .. 1.
        rng: draws the share and where the square lies; None for the largest square in the middle.

    Returns:
        (side, side, 3) uint8.
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
        pixels: (H, W, 3) uint8.
        strength: each of the three is multiplied by its own factor from 1 - strength .. 1 + strength; 0.2 is usual.
        rng: draws the factors.

    Returns:
        (H, W, 3) uint8.
    """
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    changed = pixels * brightness
    middle = (changed @ _LUMA).mean()
    changed = middle + contrast * (changed - middle)
    grey = (changed @ _LUMA)[..., None]
    changed = grey + saturation * (changed - grey)
    return np.rint(changed).clip(0, 255).astype(np.uint8)
