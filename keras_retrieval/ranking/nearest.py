"""Exact nearest-neighbour search, computed in chunks so that the complete similarity matrix is never in memory.

Rows are descriptors. Similarity is the inner product, which is the cosine similarity of L2-normalised rows. In the
shapes, Q is the number of queries, N the number of rows of the database, and D the number of dimensions.
"""

from collections.abc import Iterable

import numpy as np

from ..errors import ArgumentError
from .rows import Advance, Database, as_rows, blocks, first_rows, require_finite

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
    """Finds the k rows of a database that are most similar to each query, exactly.

    Similarity is the inner product, which is the cosine similarity of L2-normalised descriptors. The function makes one
    pass over the database. In addition to the result, the memory contains `chunk` rows and their similarities to 1024
    queries. For example, the search of 1,000,000 rows of 2048 dimensions in memory-mapped arrays needs less than 1 GB.

    Args:
        queries: descriptors of the queries, (Q, D).
        database: descriptors of the database, as an array (N, D) or as an iterable of arrays (n, D).
        k: number of rows per query, at least 1; all N if there are fewer.
        chunk: number of rows that are searched at a time, which limits the memory.
        advance: function that is called with the number of rows searched since its last call, to show progress; None
            for no such calls.

    Returns:
        Row numbers, (Q, min(k, N)) int64, and similarities, (Q, min(k, N)) float32, most similar first, ties by lower
        row number. Rows are numbered over all arrays.

    Raises:
        ArgumentError: `k` is below 1, the database has no rows, or the shapes do not match.
        DescriptorError: a descriptor contains NaN or an infinite number; the message names its row.
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
            indexes[part], scores[part] = merge_nearest(indexes[part], scores[part], similarities, first)
        seen += len(piece)
        if advance:
            advance(len(piece))
    if not seen:
        raise ArgumentError("the database has no rows")
    return indexes[:, :seen], scores[:, :seen]


def nearest_others(
    database: Database, k: int, *, chunk: int = CHUNK, advance: Advance | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds, for each row of a database, the k other rows that are most similar to it, exactly.

    Similarity is the inner product, which is the cosine similarity of L2-normalised descriptors.

    Args:
        database: descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D).
        k: number of neighbours per row, at least 0; N - 1 if there are fewer.
        chunk: number of rows that are searched at a time, which limits the memory.
        advance: function that is called with the number of rows whose neighbours were found since its last call, to
            show progress; None for no such calls.

    Returns:
        Row numbers of the neighbours, (N, min(k, N - 1)) int64, and their similarities, (N, min(k, N - 1)) float32,
        most similar first, ties by lower row number.

    Raises:
        ArgumentError: `k` is below 0, the database has no rows, or the shapes of the arrays do not match.
        DescriptorError: a descriptor contains NaN or an infinite number; the message names its row.
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


def merge_nearest(
    indexes: np.ndarray, scores: np.ndarray, similarities: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Merges the best k rows of b queries so far with the rows of a chunk.

    Args:
        indexes: numbers of the best rows so far, (b, k).
        scores: similarities of the best rows so far, (b, k).
        similarities: similarities of the queries to the m rows of the chunk, (b, m).
        first: number of the first row of the chunk.

    Returns:
        The numbers and similarities of the best rows, both (b, k).
    """
    k, size = scores.shape[1], similarities.shape[1]
    hits = similarities > scores[:, -1:]
    if size > k and np.count_nonzero(hits) > 4 * k * len(hits):
        hits &= similarities >= np.partition(similarities, size - k, axis=1)[:, size - k, None]
    counts = np.count_nonzero(hits, axis=1)
    if not counts.any():
        return indexes, scores
    rows, columns = np.nonzero(hits)
    slots = np.arange(len(rows)) - np.repeat(first_rows(counts), counts)
    shape = (len(hits), counts.max())
    new_scores, new_indexes = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
    new_scores[rows, slots] = similarities[rows, columns]
    new_indexes[rows, slots] = columns + first
    scores, indexes = np.hstack([scores, new_scores]), np.hstack([indexes, new_indexes])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(indexes, order, 1), np.take_along_axis(scores, order, 1)


def _without_self(indexes: np.ndarray, scores: np.ndarray, first: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Removes each row from its own list of neighbours.

    If the list does not contain the row, because at least as many other rows are equally similar, the last neighbour is
    removed instead.
    """
    others = indexes != np.arange(first, first + len(indexes))[:, None]
    others[others.all(axis=1), -1] = False
    shape = (len(indexes), indexes.shape[1] - 1)
    return indexes[others].reshape(shape)[:, :k], scores[others].reshape(shape)[:, :k]
