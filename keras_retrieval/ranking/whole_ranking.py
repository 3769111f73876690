"""Exact rankings of a whole database, as needed for mAP: one sort per query instead of a merge per chunk."""

from collections.abc import Iterable

import numpy as np

from ..errors import ArgumentError
from .nearest import CHUNK
from .rows import Advance, as_rows, blocks, count_rows, require_finite

_SIMILARITIES = 2**27  # similarities in memory at a time, 0.5 GB


def sort_all(
    queries: np.ndarray, database: np.ndarray | Iterable[np.ndarray], k: int, *, advance: Advance | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the same result as `nearest`, but faster if k is a large part of the database.

    In addition to the result, the memory contains half a gigabyte of similarities of a group of queries. Each group
    needs one pass over the database.

    Args:
        queries: descriptors of the queries, (Q, D).
        database: descriptors of the database, (N, D), or its shards in order as an iterable that can be iterated
            repeatedly.
        k: number of rows per query; all N if there are fewer.
        advance: called with the number of rows read since the last call.

    Returns:
        Indexes (Q, min(k, N)) int64 and scores (Q, min(k, N)) float32, best first, ties by lower index.

    Raises:
        ArgumentError: the database has no rows, or the shapes do not match.
        DescriptorError: a row contains NaN or an infinite number; the message names it.
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
    """The stable descending order of values (N,), faster than numpy's stable sort."""
    order = np.argsort(-values)
    equal = np.diff(values[order]) == 0
    if equal.any():
        run = np.concatenate([[0], np.cumsum(~equal)])
        tied = np.flatnonzero(np.concatenate([[False], equal]) | np.concatenate([equal, [False]]))
        order[tied] = order[tied][np.lexsort((order[tied], run[tied]))]
    return order


def count_passes(queries: int, size: int) -> int:
    """The number of passes of `sort_all` over a database of `size` rows."""
    return -(-queries // _group(size))


def _group(size: int) -> int:
    """The number of queries whose similarities to `size` rows are in memory at a time."""
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
