"""Mining of hard negatives for training tuples: for each query the nearest photos of other clusters, one per cluster.

The method was published in Radenovic et al. ECCV 2016 and TPAMI 2018. A cluster is a set of photos of the same object.
Negatives are chosen from the pool, a set of photos with known descriptors and clusters. `rank_candidates` restricts the
choice to some photos of the pool for each query: a random sample (Arandjelovic et al. CVPR 2016) or a given list. In
the shapes, Q is the number of queries, N the number of photos in the pool, and D the dimension of the descriptors.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import RetrievalError
from ..ranking.rows import PickedRows, as_rows, ranges, require_finite
from .nearest_clusters import nearest_clusters

_PRODUCTS = 2**24  # values of the pool that `rank_candidates` reads at a time, 64 MB
_FINITE = 2048  # rows that are checked for NaN at a time


class MiningError(RetrievalError, ValueError):
    """The pool has too few clusters to select negatives from, or the shapes or dtypes of the arrays are wrong."""


def mine_negatives(
    queries: np.ndarray,
    query_clusters: np.ndarray,
    pool: np.ndarray | PickedRows,
    pool_clusters: np.ndarray,
    negatives: int,
    *,
    same_object: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Selects hard negatives for each query: the nearest photos of other clusters, at most one from each cluster.

    Clusters are the groups of photos that show the same object. Photos of the query's own cluster, and of clusters that
    `same_object` links to it, are not selected. Without `candidates`, the selection is exact and computes the inner
    products of all queries and all photos of the pool in chunks; `nearest_clusters` describes the memory. The exact
    selection is fastest if the pool is sorted by cluster.

    Args:
        queries: descriptors of the queries, (Q, D), L2-normalised.
        query_clusters: the cluster number of each query, (Q,) integers.
        pool: descriptors of the photos to select from, (N, D), L2-normalised, as an array or as
            `ranking.rows.PickedRows`. The pool may contain the queries, because their clusters are excluded.
        pool_clusters: the cluster number of each photo of the pool, (N,) integers.
        negatives: number of negatives per query, at least 1.
        same_object: links, (L, 2) integers: pairs of clusters, in any order, that may show the same object and are not
            negatives of each other; None for no links. If a is linked to b and b to c, a is not linked to c.
        candidates: for each query, indexes into the pool of the photos to select from, (Q, k) integers, best first,
            padded with -1; from `rank_candidates` or an approximate search. A query whose candidates are from fewer
            than `negatives` clusters is searched exactly in the whole pool. None selects from the whole pool.

    Returns:
        Indexes into the pool, (Q, negatives) int64, and Euclidean distances to the query, (Q, negatives) float32. The
        nearest photo comes first, and of equally near photos the one with the lower index; with `candidates`, photos
        are in the order of `candidates`.

    Raises:
        MiningError: `negatives` is below 1, the pool has too few clusters for a query, or the shapes or dtypes of the
            arrays are wrong. The number of clusters is checked before the descriptors.
        DescriptorError: a descriptor contains NaN or an infinite number; the message names its row.
    """
    queries = as_rows(queries, "queries")
    pool = pool if isinstance(pool, PickedRows) else as_rows(pool, "pool")
    others = _Others.of(query_clusters, pool_clusters, same_object)
    _require_clusters(others, negatives)
    _require_rows(queries, pool, others)
    if candidates is None:
        indexes, scores = nearest_clusters(queries, pool, others.cluster, negatives, others.barred_pairs())
    else:
        indexes, scores = _completed(_checked_candidates(candidates, others), queries, pool, others, negatives)
    return indexes, np.sqrt(np.maximum(2 - 2 * scores, 0))


def rank_candidates(queries: np.ndarray, pool: np.ndarray | PickedRows, candidates: np.ndarray) -> np.ndarray:
    """Ranks candidates for negatives by the inner product of their descriptors and the query's descriptor.

    The inner products are computed in chunks of candidates, so that the pool can be larger than the memory.

    Args:
        queries: descriptors of the queries, (Q, D) float32.
        pool: descriptors of the photos that the candidates are from, (N, D), as an array or as
            `ranking.rows.PickedRows`.
        candidates: for each query, indexes into the pool, (Q, k) integers, in any order, padded with -1.

    Returns:
        The candidates of each query, (Q, min(k, N)), those with the largest inner product first, ties by lower index,
        padded with -1.
    """
    candidates = np.sort(candidates, axis=1)
    wanted, place = np.unique(candidates, return_inverse=True)
    place = place.reshape(candidates.shape)
    size = max(1, _PRODUCTS // pool.shape[1])
    scores = np.full(candidates.shape, -np.inf, np.float32)
    for first in range(0, len(wanted), size):
        products = queries @ pool[wanted[first : first + size]].T
        query, column = np.nonzero((place >= first) & (place < first + size) & (candidates >= 0))
        scores[query, column] = products[query, place[query, column] - first]
    order = np.argsort(-scores, axis=1, kind="stable")[:, : len(pool)]
    return np.take_along_axis(candidates, order, axis=1)


def first_of_each_cluster(
    candidates: np.ndarray,
    query_clusters: np.ndarray,
    pool_clusters: np.ndarray,
    negatives: int,
    *,
    same_object: np.ndarray | None = None,
) -> np.ndarray:
    """Selects negatives from a ranking of candidates for each query: the best candidate of each other cluster.

    Candidates of the query's own cluster, and of clusters that `same_object` links to it, are not selected.

    Args:
        candidates: for each query, indexes into the pool of photos, (Q, k) integers, best first, padded with -1.
        query_clusters: the cluster number of each query, (Q,) integers.
        pool_clusters: the cluster number of each photo of the pool, (N,) integers.
        negatives: number of negatives per query, at least 1.
        same_object: links, (L, 2) integers: pairs of clusters that are not negatives of each other, as for
            `mine_negatives`; None for no links.

    Returns:
        Indexes into the pool, (Q, negatives) int64, in the order of `candidates`. Rows are padded with -1 if the
        candidates are from fewer than `negatives` clusters.

    Raises:
        MiningError: the shapes or dtypes of the arrays are wrong, or an index is out of range.
    """
    others = _Others.of(query_clusters, pool_clusters, same_object)
    return _first(_checked_candidates(candidates, others), others, negatives)


def require_clusters(
    query_clusters: np.ndarray, pool_clusters: np.ndarray, same_object: np.ndarray | None, negatives: int
) -> None:
    """Checks, for every query, that the pool has enough clusters from which `mine_negatives` may select negatives.

    Args:
        query_clusters: the cluster number of each query, (Q,) integers.
        pool_clusters: the cluster number of each photo of the pool, (N,) integers.
        same_object: links, (L, 2) integers: pairs of clusters that are not negatives of each other, as for
            `mine_negatives`; None for no links.
        negatives: number of negatives per query, each from a different cluster.

    Raises:
        MiningError: `negatives` is below 1, the shapes or dtypes of the arrays are wrong, or too few clusters are
            available for a query; the message names the query's cluster and the number of available clusters.
    """
    _require_clusters(_Others.of(query_clusters, pool_clusters, same_object), negatives)


@dataclass(frozen=True)
class _Others:
    """The clusters of the pool and of the queries, and for each query cluster the excluded clusters of the pool.

    Attributes:
        cluster: (N,) position of each photo's cluster among the sorted distinct clusters of the pool.
        count: the number of distinct clusters of the pool.
        numbers: the sorted distinct clusters of the queries.
        of_query: (Q,) position of each query's cluster in `numbers`.
        barred: (B, 2) sorted distinct pairs: a position in `numbers`, and the position of a cluster of the pool from
            which queries of that cluster take no negatives.
    """

    cluster: np.ndarray
    count: int
    numbers: np.ndarray
    of_query: np.ndarray
    barred: np.ndarray

    @classmethod
    def of(cls, query_clusters: Any, pool_clusters: Any, same_object: Any) -> "_Others":
        """Makes the object from cluster numbers and links; a query's own and linked clusters are excluded."""
        pool, cluster = np.unique(_integers(pool_clusters, "pool_clusters", (None,)), return_inverse=True)
        numbers, of_query = np.unique(_integers(query_clusters, "query_clusters", (None,)), return_inverse=True)
        links = _integers(np.empty((0, 2), np.int64) if same_object is None else same_object, "same_object", (None, 2))
        links = np.concatenate([links, links[:, ::-1], np.stack([numbers, numbers], axis=1)])
        links = links[np.isin(links[:, 0], numbers) & np.isin(links[:, 1], pool)]
        pairs = np.searchsorted(numbers, links[:, 0]) * len(pool) + np.searchsorted(pool, links[:, 1])
        barred = np.stack(np.divmod(np.unique(pairs), max(1, len(pool))), axis=1)
        return cls(cluster, len(pool), numbers, of_query, barred)

    def barred_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns all pairs of a query and a cluster that it excludes: queries in ascending order, and positions."""
        first, end = (np.searchsorted(self.barred[:, 0], self.of_query, side) for side in ("left", "right"))
        return np.repeat(np.arange(len(first)), end - first), self.barred[ranges(first, end), 1]

    def bars(self, cluster: np.ndarray) -> np.ndarray:
        """Returns a mask (Q, k) bool, true where a query excludes the cluster at the given position (Q, k)."""
        barred = self.barred[:, 0] * self.count + self.barred[:, 1]
        return np.isin(self.of_query[:, None] * self.count + cluster, barred)


def _integers(array: Any, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Converts an array to int64 and checks its shape, where None stands for any length."""
    array = np.asarray(array)
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or (array.size and array.dtype.kind not in "iu"):
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        raise MiningError(f"{name} must be integers of the shape ({expected}), got {array.dtype} of {array.shape}")
    return array.astype(np.int64, copy=False)


def _require_clusters(others: _Others, negatives: int) -> None:
    if negatives < 1:
        raise MiningError(f"negatives must be at least 1, got {negatives}")
    left_out = np.bincount(others.barred[:, 0], minlength=len(others.numbers))
    available = (others.count - left_out)[others.of_query]
    short = np.flatnonzero(available < negatives)
    if len(short):
        raise MiningError(
            f"queries of cluster {others.numbers[others.of_query[short[0]]]} can take negatives from "
            f"{available[short[0]]} clusters of the pool but need {negatives}: draw a larger pool, add photos of "
            f"other objects, or use fewer negatives"
        )


def _require_rows(queries: np.ndarray, pool: np.ndarray | PickedRows, others: _Others) -> None:
    if queries.shape[1] != pool.shape[1]:
        raise MiningError(f"queries have {queries.shape[1]} dimensions, but the pool has {pool.shape[1]}")
    for name, rows, clusters in (("query", queries, others.of_query), ("pool", pool, others.cluster)):
        if len(rows) != len(clusters):
            raise MiningError(f"each {name} row needs a cluster, got {len(rows)} rows and {len(clusters)} clusters")
        for first in range(0, len(rows), _FINITE):
            piece = rows[first : first + _FINITE]
            # The fastest check: the sum is not finite if one of the numbers is not.
            if not np.isfinite(piece.sum()):
                require_finite(piece, f"{name} row", first)


def _checked_candidates(candidates: Any, others: _Others) -> np.ndarray:
    candidates = _integers(candidates, "candidates", (len(others.of_query), None))
    size = len(others.cluster)
    wrong = candidates[(candidates < -1) | (candidates >= size)]
    if len(wrong):
        raise MiningError(f"candidates must be indexes into the pool, 0..{size - 1}, got {wrong[0]}")
    return candidates


def _first(candidates: np.ndarray, others: _Others, negatives: int) -> np.ndarray:
    """Selects negatives as `first_of_each_cluster` does, without checks."""
    cluster = np.append(others.cluster, -1)[candidates]
    cluster[others.bars(cluster)] = -1
    order = np.argsort(cluster, axis=1, kind="stable")
    ordered = np.take_along_axis(cluster, order, axis=1)
    is_first = np.empty(cluster.shape, bool)
    np.put_along_axis(is_first, order, (ordered >= 0) & (np.diff(ordered, axis=1, prepend=-1) != 0), axis=1)
    place = np.cumsum(is_first, axis=1) - 1
    query, rank = np.nonzero(is_first & (place < negatives))
    chosen = np.full((len(candidates), negatives), -1, np.int64)
    chosen[query, place[query, rank]] = candidates[query, rank]
    return chosen


def _completed(
    candidates: np.ndarray, queries: np.ndarray, pool: np.ndarray | PickedRows, others: _Others, negatives: int
) -> tuple[np.ndarray, np.ndarray]:
    """Selects negatives from candidates, and searches exactly for queries with too few; returns indexes and scores."""
    chosen = _first(candidates, others, negatives)
    short = np.flatnonzero(chosen[:, -1] < 0)
    barred = replace(others, of_query=others.of_query[short]).barred_pairs()
    chosen[short] = nearest_clusters(queries[short], pool, others.cluster, negatives, barred)[0]
    scores = [np.einsum("qd,qd->q", queries, pool[column]) for column in chosen.T]
    return chosen, np.stack(scores, axis=1)
