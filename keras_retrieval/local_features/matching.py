"""Matches the local features of two photos by their descriptors."""

import numpy as np


def mutual_nearest(
    one: np.ndarray, other: np.ndarray, smallest_cosine: float = 0.0, space: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pairs of features of two photos that are each other's nearest neighbours.

    Args:
        one: L2-normalised descriptors of the first photo, (n, D) float32.
        other: L2-normalised descriptors of the second photo, (m, D) float32.
        smallest_cosine: pairs with a smaller cosine similarity are left out.
        space: at least n * m float32 numbers of working memory, which is overwritten; None to allocate it. A caller
            that matches many pairs passes one array for all of them, because allocating takes longer than matching.

    Returns:
        The rows of the p pairs in `one` and in `other`, each (p,) int64, in ascending order of the first. No row occurs
        twice.
    """
    if not len(one) or not len(other):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    out = None if space is None else space[: len(one) * len(other)].reshape(len(one), len(other))
    cosines = np.matmul(one, other.T, out=out)
    nearest = cosines.argmax(axis=1)
    rows = np.arange(len(one))
    values = cosines[rows, nearest]
    # The largest value of each column costs a fifth of its place.
    mutual = np.flatnonzero((values == cosines.max(axis=0)[nearest]) & (values >= smallest_cosine))
    # Of several rows with one value, the first.
    first = np.unique(nearest[mutual], return_index=True)[1]
    mutual = mutual[np.sort(first)]
    return mutual, nearest[mutual]
