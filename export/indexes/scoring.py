"""Computes the mAP of searches in collections whose folders are objects (`search --score`)."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from keras_retrieval.errors import ArgumentError

from .ranking import SearchResult


def shows_same_object(objects: Mapping[str, str], names: Sequence[str], result: SearchResult) -> np.ndarray:
    """Returns whether each photo shows the object of a query.

    Args:
        objects: maps the name of each photo in the index to its object; photos that are not in it show no object.
        names: names of n photos in the index.
        result: search result of the query. A query that is not in the index shows the objects whose photos are in a
            folder that is named as the folder of the query.

    Returns:
        One value per photo, (n,) bool; True for the query itself as well.
    """
    if result.own is None:
        folder = result.query.absolute().parent.name
        shown = {one for name, one in objects.items() if PurePosixPath(name).parent.name == folder}
    else:
        shown = {objects[result.own]} if result.own in objects else set()
    return np.array([objects.get(name) in shown for name in names], bool)


def average_precisions(objects: Mapping[str, str], names: Sequence[str], results: Sequence[SearchResult]) -> np.ndarray:
    """Computes the average precision of each query. Its positives are the other photos of its object.

    Args:
        objects: maps the name of each photo in the index to its object, as for `shows_same_object`.
        names: names of all photos in the index.
        results: for each of the Q queries, a ranking of all photos.

    Returns:
        Average precisions from 0 to 1, (Q,); NaN for queries without positives.

    Raises:
        ArgumentError: no query has positives.
    """
    from keras_retrieval.metrics import retrieval

    row_of = {name: row for row, name in enumerate(names)}
    positives = [np.flatnonzero(shows_same_object(objects, names, result)) for result in results]
    positives = [rows[rows != row_of.get(result.own or "")] for rows, result in zip(positives, results, strict=True)]
    if not any(map(len, positives)):
        raise ArgumentError("--score needs queries with other photos of their objects, and no query has any")
    depth = max(len(result.names) for result in results)
    ranks = np.full((depth, len(results)), -1)
    for column, result in enumerate(results):
        ranks[: len(result.names), column] = [row_of[name] for name in result.names]
    return retrieval(ranks, positives).ap


def mean_as_text(average_precisions: np.ndarray) -> str:
    """Formats the mAP in percent, and the number of queries over which it was averaged, as text."""
    count = np.count_nonzero(~np.isnan(average_precisions))
    return f"mAP {100 * np.nanmean(average_precisions):.1f} over {count} queries"
