"""Compares the descriptors and the mAP of two networks, such as a Keras network and its ONNX file."""

from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import DescribeFn
from PIL import Image

from ..contract.drawn_photos import drawn_photo
from .errors import OnnxExportError


def describe_both(one: DescribeFn, other: DescribeFn, batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Computes the descriptors of the same photos with two networks.

    Args:
        one: function of the first network, from photos (B, H, W, 3) uint8 to descriptors (B, D).
        other: the corresponding function of the second network.
        batches: batches of photos, each (B, H, W, 3) uint8.

    Returns:
        The descriptors of all N photos from `one` and from `other`, both (N, D) float64.
    """
    pairs = [(one(images), other(images)) for images in batches]
    x, y = (np.concatenate(rows).astype("float64") for rows in zip(*pairs, strict=True))
    return x, y


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Computes the cosine similarity of each pair of corresponding rows.

    Args:
        x: descriptors, (N, D).
        y: descriptors, (N, D).

    Returns:
        The cosine similarities, (N,). Equal rows give 1, even if both are zero. NaN for unequal rows with a number that
        is not finite.
    """
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    # The descriptor of a photo without activations is zero in both networks.
    return np.where((x == y).all(axis=1), 1.0, (x * y).sum(axis=1) / np.maximum(lengths, 1e-12))


def positives_by_object(objects: Sequence[str | None]) -> list[np.ndarray]:
    """Finds the positives of each photo as a query: the other photos of its object.

    Args:
        objects: the object of each photo; None for a photo of no object.

    Returns:
        For each photo, the row numbers of its positives.

    Raises:
        OnnxExportError: all photos show one object, or no two photos show the same.
    """
    of_photo = np.array([f"{row}" if shown is None else f"/{shown}" for row, shown in enumerate(objects)])
    positives = [np.setdiff1d(np.flatnonzero(of_photo == shown), [row]) for row, shown in enumerate(of_photo)]
    if len(set(objects)) < 2 or not any(map(len, positives)):
        raise OnnxExportError(
            "--score needs photos of at least two objects in --calibrate, and at least two of one of them among the "
            f"{len(objects)} that are compared"
        )
    return positives


def mean_average_precision(rows: np.ndarray, positives: Sequence[np.ndarray]) -> float:
    """Computes the mAP in percent, with each photo as a query that is searched for among the other photos.

    Args:
        rows: descriptors of the photos, (N, D).
        positives: row numbers of the positives of each photo, from `positives_by_object`.
    """
    from keras_retrieval.metrics import retrieval

    similarities = rows @ rows.T
    np.fill_diagonal(similarities, np.inf)  # so that each query is ranked first for itself, and can be removed
    ranks = np.argsort(-similarities, axis=1, kind="stable")[:, 1:].T
    return 100 * retrieval(ranks, positives).mean_ap


def drawn_batches(smallest: int, size: int) -> list[np.ndarray]:
    """Generates batches of synthetic photos of several sizes, on which two networks are compared.

    The photos have five sizes: the smallest square, a larger square of at most 160 pixels, a tall rectangle, a wide
    rectangle, and a rectangle whose sides are not multiples of the usual strides of networks. For each size there is a
    batch of one photo and a batch of two photos. An eleventh batch is one photo with the longest side `size`.

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
    """Generates a batch of one synthetic photo, or of the photo and its upside-down copy.

    Args:
        batch: number of photos, B, 1 or 2.
        height: height of the photos in pixels, H.
        width: width of the photos in pixels, W.

    Returns:
        The batch, (B, H, W, 3) uint8.
    """
    upright = np.asarray(Image.open(BytesIO(drawn_photo(height, width, "BMP"))))
    return np.stack([upright, upright[::-1]][:batch])
