"""Arranges the photos of a training step as arrays for the network: padded to squares, or at their exact sizes.

In the shapes, B is the number of tuples, M the number of photos in a tuple, S the side of the squares, T the number of
pixels of all photos, and G the number of groups of photos of the same shape.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from keras_retrieval.errors import ArgumentError

Arrays = dict[str, np.ndarray]


def padded(photos: Sequence[np.ndarray], tuples: int, side: int) -> Arrays:
    """Pads photos to squares with zeros, on the right and at the bottom.

    Args:
        photos: B * M photos (h, w, 3) uint8, ordered by tuple.
        tuples: the number of tuples, B.
        side: the side of the squares in pixels, S.

    Returns:
        A dict of "photos" (B, M, S, S, 3) uint8 and "sizes" (B, M, 2) int32, the height and width of each photo before
        padding.

    Raises:
        ArgumentError: a photo is higher or wider than `side`.
    """
    sizes = np.array([photo.shape[:2] for photo in photos], np.int32)
    if sizes.max() > side:
        height, width = sizes[sizes.max(axis=1).argmax()]
        raise ArgumentError(f"a photo of {width} x {height} does not fit in {side} x {side}: give a larger side")
    squares = np.zeros((len(photos), side, side, 3), np.uint8)
    for square, photo in zip(squares, photos, strict=True):
        square[: photo.shape[0], : photo.shape[1]] = photo
    return {"photos": squares.reshape(tuples, -1, side, side, 3), "sizes": sizes.reshape(tuples, -1, 2)}


def exact(photos: Sequence[np.ndarray]) -> Arrays:
    """Concatenates the pixels of photos, with photos of the same shape next to each other.

    Args:
        photos: B * M photos (h, w, 3) uint8, ordered by tuple.

    Returns:
        A dict of "pixels" (T, 3) uint8, the pixels of all photos, each photo in row-major order; "groups" (G, 3) int32,
        the number of photos, the height and the width of each group of photos of the same shape; and "places" (B * M,)
        int32, the position of each given photo among the photos in "pixels".
    """
    shapes = [photo.shape[:2] for photo in photos]
    order = sorted(range(len(photos)), key=lambda place: shapes[place])
    runs = [(shape, len(list(run))) for shape, run in groupby(shapes[place] for place in order)]
    return {
        "pixels": np.concatenate([photos[place].reshape(-1, 3) for place in order]),
        "groups": np.array([(count, *shape) for shape, count in runs], np.int32),
        "places": np.argsort(order).astype(np.int32),
    }
