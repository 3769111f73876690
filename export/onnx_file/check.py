"""Compares the descriptors of two networks, and draws pictures to compare them on."""

from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import DescribeFn
from PIL import Image

from ..contract.drawn_photos import drawn_photo
from .errors import OnnxExportError


def describe_both(one: DescribeFn, other: DescribeFn, batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Describes photos with two networks.

    Args:
        one: photos (B, H, W, 3) uint8 -> descriptors (B, D).
        other: the same for the other network.
        batches: photos (B, H, W, 3) uint8.

    Returns:
        The descriptors of all photos, (N, D) float64, by `one` and by `other`.
    """
    pairs = [(one(images), other(images)) for images in batches]
    x, y = (np.concatenate(rows).astype("float64") for rows in zip(*pairs, strict=True))
    return x, y


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cosine similarities (N,) of rows (N, D) in pairs; NaN where a number is not finite."""
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    # Both networks describe a photo without activations by zeros.
    return np.where((x == y).all(axis=1), 1.0, (x * y).sum(axis=1) / np.maximum(lengths, 1e-12))


def positives_by_folder(folders: Sequence[str]) -> list[np.ndarray]:
    """The positives of each photo as a query: the rows of the other photos of its folder.

    Args:
        folders: the folder of each photo.

    Raises:
        OnnxExportError: there is only one folder, or no folder contains two photos.
    """
    of_photo = np.array(folders)
    positives = [np.setdiff1d(np.flatnonzero(of_photo == folder), [row]) for row, folder in enumerate(of_photo)]
    if len(set(folders)) < 2 or not any(map(len, positives)):
        raise OnnxExportError(
            "--score needs one sub-folder per object in --calibrate, at least two, and several photos in one of them"
        )
    return positives


def mean_average_precision(rows: np.ndarray, positives: Sequence[np.ndarray]) -> float:
    """mAP in percent of photos that search each other, from descriptors (N, D) and each photo's positive rows."""
    from keras_retrieval.metrics import retrieval

    similarities = rows @ rows.T
    np.fill_diagonal(similarities, np.inf)  # each query ranks itself first, and is dropped
    ranks = np.argsort(-similarities, axis=1, kind="stable")[:, 1:].T
    return 100 * retrieval(ranks, positives).mean_ap


def drawn_batches(smallest: int, size: int) -> list[np.ndarray]:
    """Draws pictures to compare networks on: the smallest, square, tall, wide and odd ones, in batches of one and two.

    Args:
        smallest: the smallest side that the network describes, in pixels.
        size: the longest side of one of the pictures, in pixels.

    Returns:
        Batches (B, H, W, 3) uint8.
    """
    base = max(smallest, min(size, 160))
    half = max(smallest, base // 2)
    sides = [(smallest, smallest), (base, base), (base + 61, half), (half, base + 61), (base + 3, base + 14)]
    drawn = [drawn_batch(batch, *pair) for pair in sides for batch in (1, 2)]
    return [*drawn, drawn_batch(1, max(smallest, size), max(smallest, 3 * size // 4))]


def drawn_batch(batch: int, height: int, width: int) -> np.ndarray:
    """Draws one picture, or for a batch of two that and the same upside down; (B, H, W, 3) uint8."""
    upright = np.asarray(Image.open(BytesIO(drawn_photo(height, width, "BMP"))))
    return np.stack([upright, upright[::-1]][:batch])
