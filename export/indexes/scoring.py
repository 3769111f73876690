"""Computes the mAP of searches in collections with one folder per object (`search --score`)."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from keras_retrieval.errors import ArgumentError

from .ranking import SearchResult


def shows_same_object(names: Sequence[str], result: SearchResult) -> np.ndarray:
    """Returns whether each photo is in the same folder as a query, and so shows the same object.

    Args:
        names: names of n photos in the index.
        result: search result of the query. If the query is not in the index, the names of the folders are compared.

    Returns:
        One value per photo, (n,) bool; True for the query itself as well.
    """
    folders = [PurePosixPath(name).parent for name in names]
    if result.own is None:
        return np.array([folder.name == result.query.absolute().parent.name for folder in folders], bool)
    return np.array([folder == PurePosixPath(result.own).parent for folder in folders], bool)


def average_precisions(names: Sequence[str], results: Sequence[SearchResult]) -> np.ndarray:
    """Computes the average precision of each query. Its positives are the other photos in its folder.

    Args:
        names: names of all photos in the index.
        results: for each of the Q queries, a ranking of all photos.

    Returns:
        Average precisions from 0 to 1, (Q,); NaN for queries without positives.

    Raises:
        ArgumentError: the photos of the index are not in folders, or no query has positives.
    """
    from keras_retrieval.metrics import retrieval

    if not any("/" in name for name in names):
        raise ArgumentError("--score needs one folder for the photos of each object, and the index's photos have none")
    row_of = {name: row for row, name in enumerate(names)}
    positives = [np.flatnonzero(shows_same_object(names, result)) for result in results]
    positives = [rows[rows != row_of.get(result.own or "")] for rows, result in zip(positives, results, strict=True)]
    if not any(map(len, positives)):
        raise ArgumentError("--score needs queries with other photos in their folders, and no query has any")
    depth = max(len(result.names) for result in results)
    ranks = np.full((depth, len(results)), -1)
    for column, result in enumerate(results):
        ranks[: len(result.names), column] = [row_of[name] for name in result.names]
    return retrieval(ranks, positives).ap


def mean_as_text(average_precisions: np.ndarray) -> str:
    """Formats the mAP in percent, and the number of queries over which it was averaged, as text."""
    count = np.count_nonzero(~np.isnan(average_precisions))
    return f"mAP {100 * np.nanmean(average_precisions):.1f} over {count} queries"
