"""Compares the descriptors of two networks, and generates synthetic photos for the comparison."""

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
        one: function of the first network, photos (B, H, W, 3) uint8 -> descriptors (B, D).
        other: the same function of the second network.
        batches: batches of photos (B, H, W, 3) uint8.

    Returns:
        The descriptors of all photos by `one` and by `other`, both (N, D) float64.
    """
    pairs = [(one(images), other(images)) for images in batches]
    x, y = (np.concatenate(rows).astype("float64") for rows in zip(*pairs, strict=True))
    return x, y


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Computes the cosine similarities (N,) of corresponding rows (N, D).

    Equal rows give 1, two rows of zeros included; otherwise numbers that are not finite give NaN.
    """
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    # Both networks describe a photo without activations as zeros.
    return np.where((x == y).all(axis=1), 1.0, (x * y).sum(axis=1) / np.maximum(lengths, 1e-12))


def positives_by_folder(folders: Sequence[str]) -> list[np.ndarray]:
    """Finds the positives of each photo as a query: the row numbers of the other photos in its folder.

    Args:
        folders: name of the folder of each photo.

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
    """Computes the mAP in percent with each photo as a query, from descriptors (N, D) and row numbers of positives."""
    from keras_retrieval.metrics import retrieval

    similarities = rows @ rows.T
    np.fill_diagonal(similarities, np.inf)  # each query ranks itself first, and is removed
    ranks = np.argsort(-similarities, axis=1, kind="stable")[:, 1:].T
    return 100 * retrieval(ranks, positives).mean_ap


def drawn_batches(smallest: int, size: int) -> list[np.ndarray]:
    """Generates photos to compare networks on: the smallest, square, tall, wide and odd, in batches of one and two.

    Args:
        smallest: shortest side in pixels that the network can describe.
        size: longest side in pixels of the last photo.

    Returns:
        The batches, each (B, H, W, 3) uint8.
    """
    base = max(smallest, min(size, 160))
    half = max(smallest, base // 2)
    sides = [(smallest, smallest), (base, base), (base + 61, half), (half, base + 61), (base + 3, base + 14)]
    drawn = [drawn_batch(batch, *pair) for pair in sides for batch in (1, 2)]
    return [*drawn, drawn_batch(1, max(smallest, size), max(smallest, 3 * size // 4))]


def drawn_batch(batch: int, height: int, width: int) -> np.ndarray:
    """Generates one photo, and for a batch of two also its upside-down copy, as (B, H, W, 3) uint8."""
    upright = np.asarray(Image.open(BytesIO(drawn_photo(height, width, "BMP"))))
    return np.stack([upright, upright[::-1]][:batch])
