"""Exact nearest clusters in pieces: for each query the nearest row of each of the k nearest clusters.

Similarity is the inner product, which is the cosine on L2-normalised rows. Letters: Q queries, N rows, C clusters, D
dimensions.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import ceil

import numpy as np

from ..ranking.rows import PickedRows

_ROWS = 2048
_GROUP = 32
_HITS = 2**14
_PRODUCTS = 2**21
_LOWEST = np.finfo(np.float32).min  # below every product, above what is barred


def nearest_clusters(
    queries: np.ndarray,
    rows: np.ndarray | PickedRows,
    cluster: np.ndarray,
    k: int,
    barred: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The k clusters most similar to each query, each by its most similar row, exactly.

    A cluster's similarity is that of its most similar row. Whole clusters, together 2048 rows or a little more, meet
    as many queries as make 2 million products (8 MB) at a time. Only these, their rows and the k best so far are held,
    and the places of products that may enter: few, but for queries to which most rows are equally near. Rows that are
    sorted by cluster are read in place, others are copied piece by piece.

    Args:
        queries: (Q, D) float32, finite.
        rows: (N, D) float32, finite; PickedRows are read piece by piece.
        cluster: (N,) the cluster of each row, 0..C-1, none of them empty.
        k: how many.
        barred: the clusters that a query does not take, as pairs: numbers of queries (B,), ascending, and clusters
            (B,). Every query must have k others.

    Returns:
        indexes (Q, k) int64 and scores (Q, k) float32, best first, the lower index first among equals.
    """
    indexes = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), _LOWEST, np.float32)
    order = np.argsort(cluster, kind="stable")
    for first, edges in _pieces(np.bincount(cluster)):
        piece, edges = order[edges[0] : edges[-1]], edges - edges[0]
        levels = _levels(edges)
        for part, products in _products(_taken(rows, piece), queries):
            maxima = _maxima(products, levels)
            _bar(maxima[-1], barred, part.start, first)
            hits = _hits(maxima[-1], piece[edges[:-1]], indexes[part], scores[part])
            _merge(indexes[part], scores[part], hits[1], piece[_rows(maxima, levels, *hits)], maxima[-1][hits])
    return indexes, scores


def _pieces(sizes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Cuts clusters of these sizes (C,), lying one after another, into pieces of about 2048 rows.

    Yields:
        The piece's first cluster, and where each of its clusters begins and the last one ends.
    """
    edges = np.concatenate([[0], np.cumsum(sizes)])
    starts = np.unique(edges[:-1] // _ROWS, return_index=True)[1]
    for first, end in pairwise([*starts.tolist(), len(sizes)]):
        yield first, edges[first : end + 1]


def _taken(rows: np.ndarray | PickedRows, piece: np.ndarray) -> np.ndarray:
    """The rows of these indexes: a view where they lie one after another."""
    if (np.diff(piece) == 1).all():
        return rows[piece[0] : piece[-1] + 1]
    return rows[piece]


def _products(rows: np.ndarray, queries: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """The products (rows, some queries) of all queries, about 2 million at once; each is valid until the next."""
    parts = max(1, ceil(len(queries) * len(rows) / _PRODUCTS))
    width = max(1, ceil(len(queries) / parts))
    buffer = np.empty(len(rows) * width, np.float32)
    for start in range(0, len(queries), width):
        part = slice(start, min(start + width, len(queries)))
        shape = len(rows), part.stop - start
        yield part, np.matmul(rows, queries[part].T, out=buffer[: shape[0] * shape[1]].reshape(shape))


def _levels(edges: np.ndarray) -> list[np.ndarray]:
    """Cuts each cluster into groups of 32 rows or fewer, these into groups of 32, until each cluster is one group.

    Args:
        edges: (C + 1,) where each cluster begins and the last one ends.

    Returns:
        For each level, (G + 1,), where each of its groups begins and the last one ends, counted in the level below.
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
    """The products (rows, queries), the highest of each group (groups, queries) level by level, clusters at last."""
    maxima = [products]
    for edges in levels:
        maxima.append(_highest(maxima[-1], edges))
    return maxima


def _highest(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The highest values (groups, queries) of each group of rows; `values` themselves if each group is one row."""
    if len(edges) == len(values) + 1:
        return values
    highest = np.empty((len(edges) - 1, values.shape[1]), np.float32)
    for number, (start, end) in enumerate(pairwise(edges.tolist())):
        np.maximum.reduce(values[start:end], axis=0, out=highest[number])
    return highest


def _rows(maxima: list[np.ndarray], levels: list[np.ndarray], clusters: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The first row that has the maximum of a cluster and a query, for pairs of them (n,)."""
    scores, groups = maxima[-1][clusters, queries], clusters
    # From each cluster down to its group of groups, to the group, to the row.
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
    """For each group of rows and query, the group's first row whose value is the score (n,), which it has."""
    first, last = edges[groups], edges[groups + 1] - 1
    rows = np.minimum(first[:, None] + np.arange((last - first).max() + 1), last[:, None])
    return first + np.argmax(values[rows, queries[:, None]] == scores[:, None], axis=1)


def _bar(maxima: np.ndarray, barred: tuple[np.ndarray, np.ndarray], query: int, cluster: int) -> None:
    """Lowers the maxima (clusters, queries) of barred pairs; the first column is `query`, the first row `cluster`."""
    part = slice(*np.searchsorted(barred[0], [query, query + maxima.shape[1]]))
    queries, clusters = barred[0][part] - query, barred[1][part] - cluster
    inside = (clusters >= 0) & (clusters < len(maxima))
    maxima[clusters[inside], queries[inside]] = -np.inf


def _hits(
    maxima: np.ndarray, lowest: np.ndarray, indexes: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters and queries of maxima (clusters, queries) that may enter the best so far (queries, k).

    A maximum that equals the last of the best enters only by a lower index; `lowest` (clusters,) is the lowest it can
    have.
    """
    k, bound, last = scores.shape[1], scores[:, -1], indexes[:, -1]
    hits = maxima >= bound
    if len(maxima) > k and np.count_nonzero(hits) > 2 * k * len(bound):
        hits &= maxima >= np.partition(maxima, -k, axis=0)[-k]
    clusters, queries = np.divmod(np.flatnonzero(hits), len(bound))
    enter = (maxima[clusters, queries] > bound[queries]) | (lowest[clusters] < last[queries])
    return clusters[enter], queries[enter]


def _merge(indexes: np.ndarray, scores: np.ndarray, query: np.ndarray, index: np.ndarray, score: np.ndarray) -> None:
    """Brings the best so far (queries, k) up to date with further ones (n,): best first, then the lower index."""
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
    """All integers from first[0] to before end[0], then those from first[1], and so on."""
    lengths = end - first
    return np.arange(lengths.sum()) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
