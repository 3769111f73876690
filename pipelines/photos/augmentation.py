"""Augmentation of the photos of training tuples: colour jitter, zoom, mirroring and binarised edge maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_retrieval.errors import ArgumentError

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

_SMALLEST_SIDE = 96  # in pixels; zooming makes no side shorter, so that every trunk gets a feature map


@dataclass(frozen=True)
class Augmentation:
    """Randomly changes the photos of a training tuple each time the tuple is read.

    A training tuple is a query photo with its positive and its hard negatives.

    Attributes:
        strength: the strength of the colour jitter in 0..1, see `jitter`; 0 for no jitter.
        zoom: the smallest zoom factor in 0.1..1, see `zoomed`; 1 for no zoom.
        flip: whether tuples are mirrored left to right with probability 1/2. All photos of a tuple are mirrored
            together, so that the query still matches its positive.
        binarize: the largest threshold in 0..1 for binarising the query, which must be an edge map, so that it
            resembles a sketch. The query is binarised with probability 1/2, at a threshold that is drawn uniformly from
            0..binarize. 0 for no binarisation.

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
            seed: the random seed, integers that identify the tuple and the epoch.

        Returns:
            The changed photos in the same order, each (h, w, 3) uint8, where h and w may differ from H and W.
        """
        changed = [self(photo, np.random.default_rng([*seed, place])) for place, photo in enumerate(photos)]
        rng = np.random.default_rng([*seed, len(photos)])
        mirrored, drawn, strength = rng.random() < 0.5, rng.random() < 0.5, rng.uniform(0, self.binarize)
        if self.binarize and drawn:
            changed[0] = binarized(changed[0], strength)
        return [photo[:, ::-1] for photo in changed] if self.flip and mirrored else changed

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Zooms one photo and then jitters its colours.

        Args:
            pixels: the pixels of the photo, (H, W, 3) uint8.
            rng: the random generator that draws the changes.

        Returns:
            The changed photo, (h, w, 3) uint8, with h <= H and w <= W.
        """
        if self.zoom < 1:
            pixels = zoomed(pixels, self.zoom, rng)
        return jitter(pixels, self.strength, rng) if self.strength else pixels


def zoomed(pixels: np.ndarray, least: float, rng: np.random.Generator) -> np.ndarray:
    """Simulates a change of the camera's distance: crops a photo or shrinks it, with equal probability.

    A crop looks as if the photo was taken from nearer, a shrunk photo as if it was taken from farther away. No side
    becomes shorter than 96 pixels, unless it is shorter already.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.
        least: the smallest factor. The factor, by which both sides are multiplied, is drawn uniformly from least .. 1.
        rng: the random generator that draws the factor, the choice between crop and shrinking, and the position of the
            crop.

    Returns:
        The changed photo, (h, w, 3) uint8, with h <= H and w <= W.
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
    """Binarises an edge map.

    Args:
        edges: the edge map, (H, W, 3) uint8.
        strength: the threshold in 0..1, where 1 stands for the pixel value 255.

    Returns:
        The binary edge map, (H, W, 3) uint8: 255 where `edges` exceeds the threshold, otherwise 0.
    """
    return np.where(edges > 255 * strength, np.uint8(255), np.uint8(0))


def square(pixels: np.ndarray, side: int, least: float = 1.0, rng: np.random.Generator | None = None) -> np.ndarray:
    """Crops a square from a photo and resizes the square.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.
        side: the side of the result in pixels.
        least: the smallest side of the crop relative to the shorter side of the photo. The relative side is drawn
            uniformly from least .. 1 if `rng` is given.
        rng: the random generator that draws the side and the position of the crop. None for the largest square in the
            centre of the photo.

    Returns:
        The resized square, (side, side, 3) uint8.
    """
    from PIL import Image

    share, *places = (1.0, 0.5, 0.5) if rng is None else (rng.uniform(least, 1), *rng.random(2))
    cut = max(1, round(min(pixels.shape[:2]) * share))
    top, left = (round(place * (full - cut)) for place, full in zip(places, pixels.shape, strict=False))
    part = Image.fromarray(pixels[top : top + cut, left : left + cut])
    return np.asarray(part.resize((side, side), Image.Resampling.LANCZOS))


def jitter(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Randomly changes brightness, contrast and saturation, in this order.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.
        strength: the largest relative change in 0..1; 0.2 is a common value. The factors of brightness, contrast and
            saturation are each drawn uniformly from 1 - strength .. 1 + strength.
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
