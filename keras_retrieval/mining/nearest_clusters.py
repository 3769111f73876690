"""Exact search for the k nearest clusters of each query, and for the nearest row of each of these clusters.

Rows are descriptors. Similarity is the inner product, which is the cosine similarity of L2-normalised rows. The search
computes all similarities in chunks. In the shapes, Q is the number of queries, N the number of rows, C the number of
clusters, and D the dimension of the descriptors.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import ceil

import numpy as np

from ..ranking.rows import PickedRows

_ROWS = 2048  # approximate number of rows of a chunk
_GROUP = 32  # number of rows in a group, and of groups in a group of the next level
_HITS = 2**14  # pairs of a cluster and a query whose rows are found at a time
_PRODUCTS = 2**21  # inner products in memory at a time, 8 MB
_LOWEST = np.finfo(np.float32).min  # below every inner product, above the -inf of excluded pairs


def nearest_clusters(
    queries: np.ndarray,
    rows: np.ndarray | PickedRows,
    cluster: np.ndarray,
    k: int,
    barred: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k clusters most similar to each query, and the most similar row of each of them, exactly.

    The similarity of a cluster to a query is the inner product of the query with the cluster's most similar row. Chunks
    of whole clusters, of about 2048 rows, are multiplied with groups of queries, so that about 2 million products are
    in memory at a time, 8 MB. In addition, the memory contains one chunk, the best k clusters so far, and the positions
    of products that may be among the best k, which are few unless most rows are equally similar to a query. Rows that
    are sorted by cluster are read in place; other rows are copied chunk by chunk.

    Args:
        queries: descriptors of the queries, (Q, D) float32, finite.
        rows: descriptors to search, (N, D) float32, finite, as an array or as `ranking.rows.PickedRows`, which are read
            chunk by chunk.
        cluster: the cluster number of each row, (N,) integers in 0..C-1, where each number occurs.
        k: number of clusters per query.
        barred: the excluded pairs of a query and a cluster, as two integer arrays: query numbers, (B,), in ascending
            order, and cluster numbers, (B,). Every query must have at least k clusters that are not excluded.

    Returns:
        For each query, the indexes of the most similar rows, (Q, k) int64, and their inner products with the query,
        (Q, k) float32, most similar first, ties by lower index.
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
    """Divides rows that are sorted by cluster into chunks of whole clusters, of about 2048 rows.

    Args:
        sizes: number of rows of each cluster, (C,).

    Yields:
        The number of the first cluster of a chunk, and the first row of each cluster of the chunk, followed by the end
        of its last cluster.
    """
    edges = np.concatenate([[0], np.cumsum(sizes)])
    starts = np.unique(edges[:-1] // _ROWS, return_index=True)[1]
    for first, end in pairwise([*starts.tolist(), len(sizes)]):
        yield first, edges[first : end + 1]


def _read(rows: np.ndarray | PickedRows, piece: np.ndarray) -> np.ndarray:
    """Returns the rows at the indexes `piece` (n,), as a view if the indexes are consecutive."""
    if (np.diff(piece) == 1).all():
        return rows[piece[0] : piece[-1] + 1]
    return rows[piece]


def _products(rows: np.ndarray, queries: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Computes the inner products of rows with groups of queries, about 2 million at a time.

    Yields:
        The slice of the queries, and the products (rows, queries of the slice), which are valid until the next yield.
    """
    parts = max(1, ceil(len(queries) * len(rows) / _PRODUCTS))
    width = max(1, ceil(len(queries) / parts))
    buffer = np.empty(len(rows) * width, np.float32)
    for start in range(0, len(queries), width):
        part = slice(start, min(start + width, len(queries)))
        shape = len(rows), part.stop - start
        yield part, np.matmul(rows, queries[part].T, out=buffer[: shape[0] * shape[1]].reshape(shape))


def _levels(edges: np.ndarray) -> list[np.ndarray]:
    """Divides each cluster into groups of up to 32 rows, these into groups of 32, until each cluster is one group.

    Args:
        edges: the first row of each cluster, followed by the end of the last cluster, (C + 1,).

    Returns:
        For each level with G groups, (G + 1,): the first entry of each group in the level below (rows for the first
        level), followed by the end of the last group.
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
    """Computes the maximum product of each group and query, level by level.

    Returns:
        The products (rows, queries), then the maxima (groups, queries) of each level. The groups of the last level are
        the clusters.
    """
    maxima = [products]
    for edges in levels:
        maxima.append(_highest(maxima[-1], edges))
    return maxima


def _highest(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Computes the maxima (groups, queries) over each group of rows; returns `values` if each group is one row."""
    if len(edges) == len(values) + 1:
        return values
    highest = np.empty((len(edges) - 1, values.shape[1]), np.float32)
    for number, (start, end) in enumerate(pairwise(edges.tolist())):
        np.maximum.reduce(values[start:end], axis=0, out=highest[number])
    return highest


def _rows(maxima: list[np.ndarray], levels: list[np.ndarray], clusters: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Finds, for n pairs of a cluster and a query, the first row whose product equals the cluster's maximum, (n,)."""
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
    """Finds, for n pairs of a group and a query, the first row of the group whose value equals the score, (n,).

    Every group must contain such a row.
    """
    first, last = edges[groups], edges[groups + 1] - 1
    rows = np.minimum(first[:, None] + np.arange((last - first).max() + 1), last[:, None])
    return first + np.argmax(values[rows, queries[:, None]] == scores[:, None], axis=1)


def _exclude(maxima: np.ndarray, barred: tuple[np.ndarray, np.ndarray], query: int, cluster: int) -> None:
    """Sets the maxima of excluded pairs to -inf, in place.

    Args:
        maxima: the maxima (clusters, queries) of consecutive clusters and queries.
        barred: the excluded pairs, as for `nearest_clusters`.
        query: number of the first query of `maxima`.
        cluster: number of the first cluster of `maxima`.
    """
    part = slice(*np.searchsorted(barred[0], [query, query + maxima.shape[1]]))
    queries, clusters = barred[0][part] - query, barred[1][part] - cluster
    inside = (clusters >= 0) & (clusters < len(maxima))
    maxima[clusters[inside], queries[inside]] = -np.inf


def _hits(
    maxima: np.ndarray, lowest: np.ndarray, indexes: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the maxima that may be among the best k of their query.

    A maximum that equals the k-th best score so far is included only if its row can have a lower index.

    Args:
        maxima: the maxima (clusters, queries) of a chunk.
        lowest: the lowest index of a row of each cluster, (clusters,).
        indexes: indexes of the best rows so far, (queries, k).
        scores: scores of the best rows so far, (queries, k).

    Returns:
        The positions in `maxima`: clusters (n,) and queries (n,).
    """
    k, bound, last = scores.shape[1], scores[:, -1], indexes[:, -1]
    hits = maxima >= bound
    if len(maxima) > k and np.count_nonzero(hits) > 2 * k * len(bound):
        hits &= maxima >= np.partition(maxima, -k, axis=0)[-k]
    clusters, queries = np.divmod(np.flatnonzero(hits), len(bound))
    enter = (maxima[clusters, queries] > bound[queries]) | (lowest[clusters] < last[queries])
    return clusters[enter], queries[enter]


def _merge(indexes: np.ndarray, scores: np.ndarray, query: np.ndarray, index: np.ndarray, score: np.ndarray) -> None:
    """Merges n further rows into the best k rows of each query, in place; best first, ties by lower index.

    Args:
        indexes: indexes of the best rows so far, (queries, k).
        scores: scores of the best rows so far, (queries, k).
        query: the query of each further row, (n,).
        index: the index of each further row, (n,).
        score: the score of each further row, (n,).
    """
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
