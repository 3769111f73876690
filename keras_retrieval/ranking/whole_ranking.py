"""Exact rankings of a whole database, as mAP needs them: one sort per query instead of a merge per piece."""

from collections.abc import Iterable

import numpy as np

from .nearest import CHUNK
from .rows import Advance, as_rows, blocks, count_rows, require_finite

_SIMILARITIES = 2**27


def sort_all(
    queries: np.ndarray, database: np.ndarray | Iterable[np.ndarray], k: int, *, advance: Advance | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest` for a k that is a large part of the database: all similarities first, then one sort per query.

    Besides the result it holds half a gigabyte of similarities: those of as many queries as fit, in one pass over the
    database for each such group.

    Args:
        queries: (Q, D).
        database: (N, D), or its shards in order, which can be gone through more than once.
        k: how many rows; all N where there are fewer.
        advance: called with the number of rows just read.

    Returns:
        As `nearest`.

    Raises:
        ValueError: no rows, shapes that do not fit, or NaN in a row, which is named.
    """
    queries, size = as_rows(queries, "queries"), count_rows(database)
    if not size:
        raise ValueError("the database has no rows")
    indexes = np.empty((len(queries), min(k, size)), np.int64)
    scores = np.empty(indexes.shape, np.float32)
    group = _group(size)
    for start in range(0, len(queries), group):
        similarities = _all_similarities(queries[start : start + group], database, size, start, advance)
        for row, similarity in enumerate(similarities, start):
            order = _falling(similarity)[:k]
            indexes[row], scores[row] = order, similarity[order]
    return indexes, scores


def _falling(values: np.ndarray) -> np.ndarray:
    """The order of falling values (N,), the lower index first among equals: numpy's stable sort takes longer."""
    order = np.argsort(-values)
    equal = np.diff(values[order]) == 0
    if equal.any():
        run = np.concatenate([[0], np.cumsum(~equal)])
        tied = np.flatnonzero(np.concatenate([[False], equal]) | np.concatenate([equal, [False]]))
        order[tied] = order[tied][np.lexsort((order[tied], run[tied]))]
    return order


def count_passes(queries: int, size: int) -> int:
    """How often `sort_all` reads a database of so many rows."""
    return -(-queries // _group(size))


def _group(size: int) -> int:
    """How many queries' similarities with so many rows are held at once."""
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
            raise ValueError(f"queries have {queries.shape[1]} dimensions and the database {piece.shape[1]}")
        # This way round the product takes two thirds of the time, the small transposed copy included.
        part = piece @ queries.T
        if not np.isfinite(part.sum()):
            require_finite(piece, "database row", first)
        similarities[:, first : first + len(piece)] = part.T
        if advance:
            advance(len(piece))
    return similarities
