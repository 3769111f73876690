"""Exact nearest neighbours, computed in chunks: the complete similarity matrix is never in memory.

Similarity is the inner product, which is the cosine of L2-normalised rows. Letters: Q queries, N rows, D dimensions.
"""

from collections.abc import Iterable

import numpy as np

from ..errors import ArgumentError
from .rows import Advance, Database, as_rows, blocks, require_finite

CHUNK = 16384
_QUERIES = 1024


def nearest(
    queries: np.ndarray,
    database: np.ndarray | Iterable[np.ndarray],
    k: int,
    *,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k rows most similar to each query, exactly.

    Makes one pass over the database. In addition to the result, the memory contains `chunk` rows and their similarities
    to 1024 queries: 1,000,000 x 2048 rows from memory-mapped shards need less than 1 GB.

    Args:
        queries: descriptors of the queries, (Q, D).
        database: descriptors of the database, (N, D), or an iterable of shards (n, D) in order.
        k: number of rows per query; all N if there are fewer.
        chunk: number of rows that are searched at a time.
        advance: called with the number of rows read since the last call.

    Returns:
        Indexes (Q, min(k, N)) int64 and scores (Q, min(k, N)) float32, best first, ties by lower index.

    Raises:
        ArgumentError: `k` is below 1, the database has no rows, or the shapes do not match.
        DescriptorError: a row contains NaN or an infinite number; the message names it.
    """
    queries = as_rows(queries, "queries")
    if k < 1:
        raise ArgumentError(f"k must be at least 1, got {k}")
    indexes = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    seen = 0
    for first, piece in blocks(database, chunk):
        if piece.shape[1] != queries.shape[1]:
            raise ArgumentError(f"queries have {queries.shape[1]} dimensions, but the database has {piece.shape[1]}")
        for start in range(0, len(queries), _QUERIES):
            part = slice(start, start + _QUERIES)
            similarities = _similarities(queries[part], piece, start, first)
            indexes[part], scores[part] = _merge(indexes[part], scores[part], similarities, first)
        seen += len(piece)
        if advance:
            advance(len(piece))
    if not seen:
        raise ArgumentError("the database has no rows")
    return indexes[:, :seen], scores[:, :seen]


def nearest_others(
    database: Database, k: int, *, chunk: int = CHUNK, advance: Advance | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k other rows most similar to each row of a database, exactly.

    Args:
        database: descriptors of the database, (N, D), or its shards in order.
        k: number of neighbours per row; N - 1 if there are fewer.
        chunk: number of rows that are searched at a time.
        advance: called with the number of rows whose neighbours were found since the last call.

    Returns:
        Indexes (N, min(k, N - 1)) int64 and scores (N, min(k, N - 1)) float32, best first.

    Raises:
        ArgumentError: in the same cases as `nearest`.
        DescriptorError: in the same cases as `nearest`.
    """
    found = []
    for first, piece in blocks(database, chunk):
        found.append(_without_self(*nearest(piece, database, k + 1, chunk=chunk), first, k))
        if advance:
            advance(len(piece))
    if not found:
        raise ArgumentError("the database has no rows")
    indexes, scores = zip(*found, strict=True)
    return np.concatenate(indexes), np.concatenate(scores)


def _similarities(queries: np.ndarray, piece: np.ndarray, first_query: int, first: int) -> np.ndarray:
    similarities = queries @ piece.T
    if not np.isfinite(similarities.sum()):
        require_finite(queries, "query row", first_query)
        require_finite(piece, "database row", first)
    return similarities


def _merge(
    indexes: np.ndarray, scores: np.ndarray, similarities: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Merges the best k so far (b, k) with the similarities (b, m) to a chunk whose first row is `first`."""
    k, size = scores.shape[1], similarities.shape[1]
    hits = similarities > scores[:, -1:]
    if size > k and np.count_nonzero(hits) > 4 * k * len(hits):
        hits &= similarities >= np.partition(similarities, size - k, axis=1)[:, size - k, None]
    counts = np.count_nonzero(hits, axis=1)
    if not counts.any():
        return indexes, scores
    rows, columns = np.nonzero(hits)
    slots = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (len(hits), counts.max())
    new_scores, new_indexes = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
    new_scores[rows, slots] = similarities[rows, columns]
    new_indexes[rows, slots] = columns + first
    scores, indexes = np.hstack([scores, new_scores]), np.hstack([indexes, new_indexes])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(indexes, order, 1), np.take_along_axis(scores, order, 1)


def _without_self(indexes: np.ndarray, scores: np.ndarray, first: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Removes each row from its own neighbours, or the last neighbour if equal rows have displaced the row."""
    others = indexes != np.arange(first, first + len(indexes))[:, None]
    others[others.all(axis=1), -1] = False
    shape = (len(indexes), indexes.shape[1] - 1)
    return indexes[others].reshape(shape)[:, :k], scores[others].reshape(shape)[:, :k]
