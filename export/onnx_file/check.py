"""How far the descriptors of two networks agree, and what drawn photos they are compared on."""

from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import DescribeFn
from PIL import Image

from ..contract.drawn_photos import drawn_photo


def both(one: DescribeFn, other: DescribeFn, batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors by two networks.

    Args:
        one: photos (B, H, W, 3) uint8 -> descriptors (B, D).
        other: likewise.
        batches: of photos.

    Returns:
        The rows of all photos, (N, D) float64, by each.
    """
    pairs = [(one(images), other(images)) for images in batches]
    x, y = (np.concatenate(rows).astype("float64") for rows in zip(*pairs, strict=True))
    return x, y


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cosine of each pair of rows, (N,); NaN where a number is not finite."""
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    # A photo without any activation is described by zeros, by both.
    return np.where((x == y).all(axis=1), 1.0, (x * y).sum(axis=1) / np.maximum(lengths, 1e-12))


def of_same_object(folders: Sequence[str]) -> list[np.ndarray]:
    """For each photo the rows of the others in its folder, which are right where it is the query.

    Raises:
        ValueError: there is one folder only, or no two photos lie in the same.
    """
    lies = np.array(folders)
    positives = [np.setdiff1d(np.flatnonzero(lies == folder), [row]) for row, folder in enumerate(lies)]
    if len(set(folders)) < 2 or not any(map(len, positives)):
        raise ValueError("--score needs a folder for each object, two at least, and several photos in one of them")
    return positives


def mean_average_precision(rows: np.ndarray, positives: Sequence[np.ndarray]) -> float:
    """mAP, 0 to 100, of photos that search each other: (N, D) descriptors, and for each the rows that are right."""
    from keras_retrieval.metrics import retrieval

    similarities = rows @ rows.T
    np.fill_diagonal(similarities, np.inf)  # itself first, and left out
    ranks = np.argsort(-similarities, axis=1, kind="stable")[:, 1:].T
    return 100 * retrieval(ranks, positives).mean_ap


def pictures(smallest: int, size: int) -> list[np.ndarray]:
    """Drawn photos to compare networks on: tiny, square, tall, wide and odd ones, one and two at once.

    Args:
        smallest: pixels that the network needs on a side.
        size: the longest side that it is for; one picture has it.

    Returns:
        Batches (B, H, W, 3) uint8.
    """
    base = max(smallest, min(size, 160))
    half = max(smallest, base // 2)
    sides = [(smallest, smallest), (base, base), (base + 61, half), (half, base + 61), (base + 3, base + 14)]
    drawn = [picture(batch, *pair) for pair in sides for batch in (1, 2)]
    return [*drawn, picture(1, max(smallest, size), max(smallest, 3 * size // 4))]


def picture(batch: int, height: int, width: int) -> np.ndarray:
    """One drawn photo, or with it the same upside down, (B, H, W, 3) uint8."""
    upright = np.asarray(Image.open(BytesIO(drawn_photo(height, width, "BMP"))))
    return np.stack([upright, upright[::-1]][:batch])
