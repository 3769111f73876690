"""Exact rankings of all rows of a database, as needed for mAP, with one sort per query instead of a merge per chunk."""

from collections.abc import Iterable

import numpy as np

from ..errors import ArgumentError
from .nearest import CHUNK
from .rows import Advance, as_rows, blocks, count_rows, require_finite

_SIMILARITIES = 2**27  # similarities in memory at a time, 0.5 GB


def sort_all(
    queries: np.ndarray, database: np.ndarray | Iterable[np.ndarray], k: int, *, advance: Advance | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k rows of a database that are most similar to each query, by sorting the similarities of all rows.

    Similarity is the inner product. The result is that of `nearest`, but the function is faster if k is a large part of
    the number of rows. The queries are processed in groups, each of which needs one pass over the database and up to
    half a gigabyte of memory for its similarities.

    Args:
        queries: descriptors of the queries, (Q, D).
        database: descriptors of the database, as an array (N, D) or as an iterable of arrays (n, D) that can be
            iterated repeatedly.
        k: number of rows per query; all N if there are fewer.
        advance: function that is called with the number of rows read since its last call, to show progress; None for no
            such calls. Each pass over the database counts all N rows.

    Returns:
        Row numbers, (Q, min(k, N)) int64, and similarities, (Q, min(k, N)) float32, most similar first, ties by lower
        row number.

    Raises:
        ArgumentError: the database has no rows, or the shapes do not match.
        DescriptorError: a descriptor contains NaN or an infinite number; the message names its row.
    """
    queries, size = as_rows(queries, "queries"), count_rows(database)
    if not size:
        raise ArgumentError("the database has no rows")
    indexes = np.empty((len(queries), min(k, size)), np.int64)
    scores = np.empty(indexes.shape, np.float32)
    group = _group(size)
    for start in range(0, len(queries), group):
        similarities = _all_similarities(queries[start : start + group], database, size, start, advance)
        for row, similarity in enumerate(similarities, start):
            order = _descending(similarity)[:k]
            indexes[row], scores[row] = order, similarity[order]
    return indexes, scores


def _descending(values: np.ndarray) -> np.ndarray:
    """Returns the stable descending order of values (N,) as indexes, faster than numpy's stable sort."""
    order = np.argsort(-values)
    equal = np.diff(values[order]) == 0
    if equal.any():
        run = np.concatenate([[0], np.cumsum(~equal)])
        tied = np.flatnonzero(np.concatenate([[False], equal]) | np.concatenate([equal, [False]]))
        order[tied] = order[tied][np.lexsort((order[tied], run[tied]))]
    return order


def count_passes(queries: int, size: int) -> int:
    """Returns the number of passes that `sort_all` makes over a database.

    Args:
        queries: number of queries.
        size: number of rows of the database.
    """
    return -(-queries // _group(size))


def _group(size: int) -> int:
    """Returns the number of queries whose similarities to `size` rows are in memory at a time."""
    return max(1, _SIMILARITIES // max(1, size))


def _all_similarities(
    queries: np.ndarray,
    database: np.ndarray | Iterable[np.ndarray],
    size: int,
    first_query: int,
    advance: Advance | None,
) -> np.ndarray:
    require_finite(queries, "query row", first_query)
    similarities = np.empty((len(queries), size), np.float32)
    for first, piece in blocks(database, CHUNK):
        if piece.shape[1] != queries.shape[1]:
            raise ArgumentError(f"queries have {queries.shape[1]} dimensions, but the database has {piece.shape[1]}")
        # In this order the product takes two thirds of the time, including the transposed copy.
        part = piece @ queries.T
        if not np.isfinite(part.sum()):
            require_finite(piece, "database row", first)
        similarities[:, first : first + len(piece)] = part.T
        if advance:
            advance(len(piece))
    return similarities
