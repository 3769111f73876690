"""Exact nearest clusters, computed in chunks: for each query the nearest row of each of the k nearest clusters.

Similarity is the inner product, which is the cosine of L2-normalised rows. Letters: Q queries, N rows, C clusters, D
dimensions.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import ceil

import numpy as np

from ..ranking.rows import PickedRows

_ROWS = 2048  # approximate number of rows of a chunk
_GROUP = 32  # rows or groups in a group of the next level
_HITS = 2**14  # pairs whose rows are found at a time
_PRODUCTS = 2**21  # products of a chunk with some queries in memory, 8 MB
_LOWEST = np.finfo(np.float32).min  # below every product, above the -inf of excluded pairs


def nearest_clusters(
    queries: np.ndarray,
    rows: np.ndarray | PickedRows,
    cluster: np.ndarray,
    k: int,
    barred: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k clusters most similar to each query, and the most similar row of each, exactly.

    The similarity of a cluster is that of its most similar row. Chunks of whole clusters, about 2048 rows, are
    multiplied with as many queries as give 2 million products (8 MB). The memory contains one such chunk, the k best so
    far, and the positions of products that may be among them, which are few unless most rows are equally near to a
    query. Rows that are sorted by cluster are read in place; others are copied chunk by chunk.

    Args:
        queries: descriptors of the queries, (Q, D) float32, finite.
        rows: descriptors to search, (N, D) float32, finite; PickedRows are read chunk by chunk.
        cluster: the cluster of each row, (N,), 0..C-1, without empty clusters.
        k: number of clusters per query.
        barred: pairs of a query and a cluster that it excludes: queries (B,), in ascending order, and clusters (B,).
            Every query must have at least k other clusters.

    Returns:
        Indexes (Q, k) int64 of rows and scores (Q, k) float32, best first, ties by lower index.
    """
    indexes = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), _LOWEST, np.float32)
    order = np.argsort(cluster, kind="stable")
    for first, edges in _pieces(np.bincount(cluster)):
        piece, edges = order[edges[0] : edges[-1]], edges - edges[0]
        levels = _levels(edges)
        for part, products in _products(_read(rows, piece), queries):
            maxima = _maxima(products, levels)
            _exclude(maxima[-1], barred, part.start, first)
            hits = _hits(maxima[-1], piece[edges[:-1]], indexes[part], scores[part])
            _merge(indexes[part], scores[part], hits[1], piece[_rows(maxima, levels, *hits)], maxima[-1][hits])
    return indexes, scores


def _pieces(sizes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Divides consecutive clusters of these sizes (C,) into chunks of about 2048 rows.

    Yields:
        The first cluster of the chunk, and the first row of each of its clusters, followed by the end of the last one.
    """
    edges = np.concatenate([[0], np.cumsum(sizes)])
    starts = np.unique(edges[:-1] // _ROWS, return_index=True)[1]
    for first, end in pairwise([*starts.tolist(), len(sizes)]):
        yield first, edges[first : end + 1]


def _read(rows: np.ndarray | PickedRows, piece: np.ndarray) -> np.ndarray:
    """The rows of these indexes; a view if the indexes are consecutive."""
    if (np.diff(piece) == 1).all():
        return rows[piece[0] : piece[-1] + 1]
    return rows[piece]


def _products(rows: np.ndarray, queries: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields the products (rows, some queries), about 2 million at a time; each array is valid until the next one."""
    parts = max(1, ceil(len(queries) * len(rows) / _PRODUCTS))
    width = max(1, ceil(len(queries) / parts))
    buffer = np.empty(len(rows) * width, np.float32)
    for start in range(0, len(queries), width):
        part = slice(start, min(start + width, len(queries)))
        shape = len(rows), part.stop - start
        yield part, np.matmul(rows, queries[part].T, out=buffer[: shape[0] * shape[1]].reshape(shape))


def _levels(edges: np.ndarray) -> list[np.ndarray]:
    """Divides clusters into groups of at most 32 rows, and these into groups of 32, until each cluster is one group.

    Args:
        edges: (C + 1,) the first row of each cluster, followed by the end of the last one.

    Returns:
        For each level, (G + 1,): the first entry of each group in the level below, followed by the end of the last one.
    """
    levels: list[np.ndarray] = []
    while not levels or len(levels[-1]) > len(edges):
        counts = -(-np.diff(edges) // _GROUP)
        above = np.concatenate([[0], np.cumsum(counts)])
        within = np.arange(above[-1]) - np.repeat(above[:-1], counts)
        levels.append(np.append(np.repeat(edges[:-1], counts) + _GROUP * within, edges[-1]))
        edges = above
    return levels


def _maxima(products: np.ndarray, levels: list[np.ndarray]) -> list[np.ndarray]:
    """The products (rows, queries), then the maxima (groups, queries) of each level; the last are those of clusters."""
    maxima = [products]
    for edges in levels:
        maxima.append(_highest(maxima[-1], edges))
    return maxima


def _highest(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The maxima (groups, queries) over each group of rows; `values` itself if each group is one row."""
    if len(edges) == len(values) + 1:
        return values
    highest = np.empty((len(edges) - 1, values.shape[1]), np.float32)
    for number, (start, end) in enumerate(pairwise(edges.tolist())):
        np.maximum.reduce(values[start:end], axis=0, out=highest[number])
    return highest


def _rows(maxima: list[np.ndarray], levels: list[np.ndarray], clusters: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The first row that attains the maximum, for pairs of a cluster and a query (n,)."""
    scores, groups = maxima[-1][clusters, queries], clusters
    # Descend the levels from the cluster to the row.
    for values, edges in zip(maxima[-2::-1], levels[::-1], strict=True):
        found = [np.empty(0, np.int64)]
        for start in range(0, len(groups), _HITS):
            part = slice(start, start + _HITS)
            found.append(_first_equal(values, edges, groups[part], queries[part], scores[part]))
        groups = np.concatenate(found)
    return groups


def _first_equal(
    values: np.ndarray, edges: np.ndarray, groups: np.ndarray, queries: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """For pairs of a group and a query, the first row of the group whose value equals the score (n,); one must."""
    first, last = edges[groups], edges[groups + 1] - 1
    rows = np.minimum(first[:, None] + np.arange((last - first).max() + 1), last[:, None])
    return first + np.argmax(values[rows, queries[:, None]] == scores[:, None], axis=1)


def _exclude(maxima: np.ndarray, barred: tuple[np.ndarray, np.ndarray], query: int, cluster: int) -> None:
    """Sets the maxima (clusters, queries) of excluded pairs to -inf; they begin with `cluster` and `query`."""
    part = slice(*np.searchsorted(barred[0], [query, query + maxima.shape[1]]))
    queries, clusters = barred[0][part] - query, barred[1][part] - cluster
    inside = (clusters >= 0) & (clusters < len(maxima))
    maxima[clusters[inside], queries[inside]] = -np.inf


def _hits(
    maxima: np.ndarray, lowest: np.ndarray, indexes: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters and queries of maxima (clusters, queries) that may be among the best so far (queries, k).

    A maximum that equals the last of the best is included only if its index can be lower; `lowest` (clusters,) are the
    lowest possible indexes.
    """
    k, bound, last = scores.shape[1], scores[:, -1], indexes[:, -1]
    hits = maxima >= bound
    if len(maxima) > k and np.count_nonzero(hits) > 2 * k * len(bound):
        hits &= maxima >= np.partition(maxima, -k, axis=0)[-k]
    clusters, queries = np.divmod(np.flatnonzero(hits), len(bound))
    enter = (maxima[clusters, queries] > bound[queries]) | (lowest[clusters] < last[queries])
    return clusters[enter], queries[enter]


def _merge(indexes: np.ndarray, scores: np.ndarray, query: np.ndarray, index: np.ndarray, score: np.ndarray) -> None:
    """Updates the best so far (queries, k) in place with further ones (n,): best first, ties by lower index."""
    k = scores.shape[1]
    counts = np.bincount(query, minlength=len(scores))
    touched = np.flatnonzero(counts)
    query = np.concatenate([np.repeat(touched, k), query])
    index = np.concatenate([indexes[touched].ravel(), index])
    score = np.concatenate([scores[touched].ravel(), score])
    order = np.lexsort((index, -score, query))
    first = np.cumsum(counts[touched] + k) - (counts[touched] + k)
    kept = order[first[:, None] + np.arange(k)]
    indexes[touched], scores[touched] = index[kept], score[kept]


def ranges(first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Concatenates the ranges first[i] <= j < end[i]."""
    lengths = end - first
    return np.arange(lengths.sum()) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
