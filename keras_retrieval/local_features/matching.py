"""Matches the local features of two photos by their descriptors."""

import numpy as np


def mutual_nearest(
    one: np.ndarray,
    other: np.ndarray,
    smallest_cosine: float = 0.0,
    space: np.ndarray | None = None,
    *,
    largest_ratio: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pairs of features of two photos that are each other's nearest neighbours.

    Args:
        one: L2-normalised descriptors of the first photo, (n, D) float32.
        other: L2-normalised descriptors of the second photo, (m, D) float32.
        smallest_cosine: pairs with a smaller cosine similarity are left out.
        space: at least n * m float32 numbers of working memory, which is overwritten; None to allocate it. A caller
            that matches many pairs passes one array for all of them, because allocating takes longer than matching.
        largest_ratio: largest ratio of the angle between two features to the angle between either of them and the
            second nearest feature of the other photo (Lowe, IJCV 2004); None for no limit. A photo with a single
            feature has no second nearest one, so that nothing is left out on its account.

    Returns:
        The rows of the p pairs in `one` and in `other`, each (p,) int64, in ascending order of the first. No row occurs
        twice.
    """
    if not len(one) or not len(other):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    out = None if space is None else space[: len(one) * len(other)].reshape(len(one), len(other))
    cosines = np.matmul(one, other.T, out=out)
    matched, matches = mutual_best(cosines, smallest_cosine)
    if largest_ratio is not None:
        distinct = _distinct(cosines, matched, matches, largest_ratio)
        matched, matches = matched[distinct], matches[distinct]
    return matched, matches


def mutual_best(values: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """Finds the entries of a matrix that are the largest of their row and of their column.

    Args:
        values: the values of the pairs of features of two photos, (n, m); neither is 0.
        smallest: pairs with a smaller value are left out.

    Returns:
        The rows and columns of the p entries, each (p,) int64, in ascending order of the rows. No column occurs twice.
    """
    nearest = values.argmax(axis=1)
    rows = np.arange(len(values))
    best = values[rows, nearest]
    # The largest value of each column costs a fifth of its place.
    mutual = np.flatnonzero((best == values.max(axis=0)[nearest]) & (best >= smallest))
    # Of several rows with one value, the first.
    first = np.unique(nearest[mutual], return_index=True)[1]
    mutual = mutual[np.sort(first)]
    return mutual, nearest[mutual]


def _distinct(cosines: np.ndarray, rows: np.ndarray, columns: np.ndarray, largest_ratio: float) -> np.ndarray:
    """Whether the angle of each match, (p,), is small enough beside the next larger ones of its row and column."""
    best = cosines[rows, columns].copy()
    cosines[rows, columns] = -1.0  # of the nearest; what is left are the second nearest ones
    second = np.maximum(cosines.max(axis=1)[rows], cosines.max(axis=0)[columns])
    return np.arccos(np.clip(best, -1, 1)) <= largest_ratio * np.arccos(np.clip(second, -1, 1))
