"""Computes the mAP of searches, for photos in one folder per object (`search --score`)."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from keras_retrieval.errors import ArgumentError

from .ranking import SearchResult


def shows_same_object(names: Sequence[str], result: SearchResult) -> np.ndarray:
    """Returns whether each photo is in the folder of the query's object, (n,) bool; true for the query itself, too."""
    folders = [PurePosixPath(name).parent for name in names]
    if result.own is None:
        return np.array([folder.name == result.query.absolute().parent.name for folder in folders], bool)
    return np.array([folder == PurePosixPath(result.own).parent for folder in folders], bool)


def average_precisions(names: Sequence[str], results: Sequence[SearchResult]) -> np.ndarray:
    """Computes the average precision of each query, (Q,); NaN for queries without another photo of their object.

    Args:
        names: names of all photos in the index.
        results: rankings of all photos, one per query.

    Raises:
        ArgumentError: the photos are not in folders, or no query has another photo in its folder.
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
    """Formats the mAP in per cent and the number of queries that it averages."""
    count = np.count_nonzero(~np.isnan(average_precisions))
    return f"mAP {100 * np.nanmean(average_precisions):.1f} over {count} queries"
