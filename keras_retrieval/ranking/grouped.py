"""Exact search for groups of rows, such as the crops of photos, each of which counts by its best row.

The rows of a group follow each other in the database. In the shapes, Q is the number of queries, R the number of rows,
N the number of groups, and D the number of dimensions.
"""

from collections.abc import Iterable

import numpy as np

from ..errors import ArgumentError
from .nearest import CHUNK, merge_nearest
from .rows import Advance, as_rows, blocks, require_finite

_QUERIES = 256


def nearest_groups(
    queries: np.ndarray,
    database: np.ndarray | Iterable[np.ndarray],
    starts: np.ndarray,
    k: int,
    *,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k groups of rows whose best rows are most similar to each query, exactly.

    Similarity is the inner product, and that of a group is the largest of its rows. The function makes one pass over
    the database.

    Args:
        queries: descriptors of the queries, (Q, D).
        database: descriptors of the database, as an array (R, D) or as an iterable of arrays (n, D).
        starts: the first row of each group, (N,) ascending integers without repetition, of which the first is 0.
        k: number of groups per query, at least 1; all N if there are fewer.
        chunk: number of rows that are searched at a time, which limits the memory.
        advance: function that is called with the number of rows searched since its last call; None for no such calls.

    Returns:
        Numbers of groups, (Q, min(k, N)) int64, and similarities, (Q, min(k, N)) float32, most similar first, ties by
        lower number.

    Raises:
        ArgumentError: `k` is below 1, the database has no rows, the shapes do not match, or `starts` are not the first
            rows of groups.
        DescriptorError: a descriptor contains NaN or an infinite number.
    """
    queries, starts = as_rows(queries, "queries"), np.asarray(starts, np.int64)
    if k < 1:
        raise ArgumentError(f"k must be at least 1, got {k}")
    if starts.ndim != 1 or not len(starts) or starts[0] != 0 or (np.diff(starts) < 1).any():
        raise ArgumentError("starts must be the first rows of groups: ascending from 0 without repetition")
    indexes = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    # The last group of a chunk may go on in the next one: it is merged when it is complete.
    begun, best_of_begun = -1, np.empty((len(queries), 1), np.float32)
    seen = 0
    for first, piece in blocks(database, chunk):
        if piece.shape[1] != queries.shape[1]:
            raise ArgumentError(f"queries have {queries.shape[1]} dimensions, but the database has {piece.shape[1]}")
        low, high = np.searchsorted(starts, [first, first + len(piece)])
        goes_on = low == len(starts) or starts[low] != first
        number = int(low) - 1 if goes_on else int(low)  # of the first group of the piece
        cuts = np.concatenate([[0] if goes_on else [], starts[low:high] - first]).astype(np.int64)
        for start in range(0, len(queries), _QUERIES):
            part = slice(start, start + _QUERIES)
            similarities = queries[part] @ piece.T
            if not np.isfinite(similarities.sum()):
                require_finite(queries[part], "query row", start)
                require_finite(piece, "database row", first)
            best = np.maximum.reduceat(similarities, cuts, axis=1)
            if begun == number:
                np.maximum(best[:, 0], best_of_begun[part, 0], out=best[:, 0])
            elif begun >= 0:
                best = np.hstack([best_of_begun[part], best])
            offset = begun if begun >= 0 else number
            best_of_begun[part] = best[:, -1:]
            if best.shape[1] > 1:
                indexes[part], scores[part] = merge_nearest(indexes[part], scores[part], best[:, :-1], offset)
        begun = number + len(cuts) - 1
        seen += len(piece)
        if advance:
            advance(len(piece))
    if not seen or starts[-1] >= seen:
        raise ArgumentError(f"the database has {seen} rows, and the last group begins with row {starts[-1]}")
    indexes, scores = merge_nearest(indexes, scores, best_of_begun, begun)
    return indexes[:, : len(starts)], scores[:, : len(starts)]
