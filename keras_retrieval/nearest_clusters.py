"""Exact nearest clusters in pieces: for each query the nearest row of each of the k nearest clusters.

Similarity is the inner product, which is the cosine on L2-normalised rows. Letters: Q queries, N rows, C clusters, D
dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np

_ROWS = 2048
_RUN = 64
_PRODUCTS = 2**21
_LOWEST = np.finfo(np.float32).min  # below every product, above what is barred


def nearest_clusters(
    queries: np.ndarray,
    rows: np.ndarray,
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
        rows: (N, D) float32, finite.
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
        for part, products in _products(_taken(rows, piece), queries):
            maxima = _Maxima.of(products, edges)
            _bar(maxima.of_clusters, barred, part.start, first)
            hits = _hits(maxima.of_clusters, piece[edges[:-1]], indexes[part], scores[part])
            found = hits[1], piece[maxima.rows(*hits)], maxima.of_clusters[hits]
            _merge(indexes[part], scores[part], *found)
    return indexes, scores


@dataclass(frozen=True)
class _Maxima:
    """The highest products of clusters, and of runs of 64 rows or fewer within them, to find the rows quickly.

    Attributes:
        products: (rows, queries), sorted by cluster.
        runs: (R + 1,) the row where each run begins and the last one ends.
        of_runs: (R, queries).
        clusters: (C + 1,) the run where each cluster begins and the last one ends.
        of_clusters: (C, queries).
    """

    products: np.ndarray
    runs: np.ndarray
    of_runs: np.ndarray
    clusters: np.ndarray
    of_clusters: np.ndarray

    @classmethod
    def of(cls, products: np.ndarray, edges: np.ndarray) -> "_Maxima":
        """From products (rows, queries) and the rows where each cluster begins and the last one ends."""
        counts = -(-np.diff(edges) // _RUN)
        clusters = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(clusters[-1]) - np.repeat(clusters[:-1], counts)
        runs = np.append(np.repeat(edges[:-1], counts) + _RUN * places, edges[-1])
        of_runs = _highest(products, runs)
        return cls(products, runs, of_runs, clusters, _highest(of_runs, clusters))

    def rows(self, clusters: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """The first row that has the maximum of a cluster and a query, for pairs of them."""
        scores = self.of_clusters[clusters, queries]
        runs = _first_equal(self.of_runs, self.clusters, clusters, queries, scores)
        return _first_equal(self.products, self.runs, runs, queries, scores)


def _highest(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The highest values (groups, queries) of rows edges[i] to edges[i + 1]; `values` itself if each is one row."""
    if len(edges) == len(values) + 1:
        return values
    highest = np.empty((len(edges) - 1, values.shape[1]), np.float32)
    for number, (start, end) in enumerate(pairwise(edges.tolist())):
        np.maximum.reduce(values[start:end], axis=0, out=highest[number])
    return highest


def _first_equal(
    values: np.ndarray, edges: np.ndarray, groups: np.ndarray, queries: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """For each group of rows and query, the first row of the group whose value is the score (n,), which one has."""
    pair = np.repeat(np.arange(len(groups)), edges[groups + 1] - edges[groups])
    row = ranges(edges[groups], edges[groups + 1])
    equal = np.flatnonzero(values[row, queries[pair]] == scores[pair])
    return row[equal[np.unique(pair[equal], return_index=True)[1]]]


def _pieces(sizes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Cuts clusters of these sizes (C,), lying one after another, into pieces of about 2048 rows.

    Yields:
        The piece's first cluster, and where each of its clusters begins and the last one ends.
    """
    edges = np.concatenate([[0], np.cumsum(sizes)])
    starts = np.unique(edges[:-1] // _ROWS, return_index=True)[1]
    for first, end in pairwise([*starts.tolist(), len(sizes)]):
        yield first, edges[first : end + 1]


def _taken(rows: np.ndarray, piece: np.ndarray) -> np.ndarray:
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
    touched = np.unique(query)
    query = np.concatenate([np.repeat(touched, k), query])
    index = np.concatenate([indexes[touched].ravel(), index])
    score = np.concatenate([scores[touched].ravel(), score])
    order = np.lexsort((index, -score, query))
    query = query[order]
    kept = order[np.arange(len(query)) - np.searchsorted(query, query) < k]
    indexes[touched], scores[touched] = index[kept].reshape(-1, k), score[kept].reshape(-1, k)


def ranges(first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """All integers from first[0] to before end[0], then those from first[1], and so on."""
    lengths = end - first
    return np.arange(lengths.sum()) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
