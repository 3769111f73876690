"""Hard negatives of training tuples: for each query the nearest photos of other clusters, one per cluster.

Published in Radenovic et al. ECCV 2016 and TPAMI 2018. `rank_candidates` restricts the choice to some photos per query:
a random sample (Arandjelovic et al. CVPR 2016) or a given list. Letters: Q queries, N photos in the pool, C clusters in
the pool, D dimensions, L links between clusters.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import RetrievalError
from ..ranking.rows import PickedRows, as_rows, require_finite
from .nearest_clusters import nearest_clusters, ranges

_PRODUCTS = 2**24  # numbers of the pool that `rank_candidates` reads at a time, 64 MB
_FINITE = 2048  # rows that are checked for NaN at a time


class MiningError(RetrievalError, ValueError):
    """The pool has too few clusters to take negatives from, or the arrays do not fit together."""


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
    """Selects the nearest photos of other clusters: at most one per cluster, and not from linked clusters.

    Without `candidates` the selection is exact and computes all products in chunks; see `nearest_clusters` for the
    memory. It is fastest if the pool is sorted by cluster.

    Args:
        queries: descriptors of the queries, (Q, D), L2-normalised.
        query_clusters: the cluster of each query, (Q,) integers.
        pool: descriptors of the pool, (N, D), L2-normalised, as an array or PickedRows. It may contain the queries,
            because their own cluster is excluded.
        pool_clusters: the cluster of each photo of the pool, (N,) integers.
        negatives: number of negatives per query.
        same_object: pairs of clusters, (L, 2), in any order, that are not negatives of each other. Links are not
            transitive.
        candidates: indexes into the pool of the photos to select from for each query, (Q, k) integers, best first, from
            `rank_candidates` or an approximate search, filled up with -1. Queries whose candidates have too few
            clusters are searched exactly.

    Returns:
        Indexes (Q, negatives) int64 into the pool and Euclidean distances (Q, negatives) float32, nearest first, ties
        by lower index; with `candidates`, in their order.

    Raises:
        MiningError: there are too few clusters, which is checked first, or the arrays do not fit together.
        DescriptorError: a row contains NaN or an infinite number; the message names it.
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
    """Ranks given photos of the pool for each query by their inner product with it.

    The products of all queries with all candidates are computed in chunks, so that the pool can be larger than the
    memory.

    Args:
        queries: descriptors of the queries, (Q, D).
        pool: descriptors of the pool, (N, D).
        candidates: indexes into the pool for each query, (Q, k), in any order, filled up with -1.

    Returns:
        The candidates, (Q, min(k, N)), best first, ties by lower index, filled up with -1.
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
    """Selects negatives from rankings: the first photo of each cluster that is neither the query's nor linked to it.

    Args:
        candidates: indexes into the pool for each query, (Q, k), best first, filled up with -1.
        query_clusters: the cluster of each query, (Q,) integers.
        pool_clusters: the cluster of each photo of the pool, (N,) integers.
        negatives: number of negatives per query.
        same_object: as in `mine_negatives`.

    Returns:
        Indexes into the pool, (Q, negatives) int64, filled up with -1 if there are too few candidates.

    Raises:
        MiningError: the arrays do not fit together, or an index is out of range.
    """
    others = _Others.of(query_clusters, pool_clusters, same_object)
    return _first(_checked_candidates(candidates, others), others, negatives)


def require_clusters(
    query_clusters: np.ndarray, pool_clusters: np.ndarray, same_object: np.ndarray | None, negatives: int
) -> None:
    """Checks that the pool has enough clusters to take negatives from, for every query.

    Args:
        query_clusters: the cluster of each query, (Q,) integers.
        pool_clusters: the cluster of each photo of the pool, (N,) integers.
        same_object: as in `mine_negatives`.
        negatives: number of negatives per query.

    Raises:
        MiningError: a query has too few; the message names its cluster and the number that is available.
    """
    _require_clusters(_Others.of(query_clusters, pool_clusters, same_object), negatives)


@dataclass(frozen=True)
class _Others:
    """The clusters of pool and queries as positions, and the pairs from which no negatives are taken.

    Attributes:
        cluster: (N,) position of each photo's cluster among the sorted clusters of the pool.
        count: C, the number of clusters of the pool.
        numbers: the sorted distinct clusters of the queries.
        of_query: (Q,) position of each query's cluster in `numbers`.
        barred: (B, 2) sorted distinct pairs of a position in `numbers` and the position of an excluded cluster.
    """

    cluster: np.ndarray
    count: int
    numbers: np.ndarray
    of_query: np.ndarray
    barred: np.ndarray

    @classmethod
    def of(cls, query_clusters: Any, pool_clusters: Any, same_object: Any) -> "_Others":
        """Excludes each query's own cluster and those linked to it, if they are in the pool."""
        pool, cluster = np.unique(_integers(pool_clusters, "pool_clusters", (None,)), return_inverse=True)
        numbers, of_query = np.unique(_integers(query_clusters, "query_clusters", (None,)), return_inverse=True)
        links = _integers(np.empty((0, 2), np.int64) if same_object is None else same_object, "same_object", (None, 2))
        links = np.concatenate([links, links[:, ::-1], np.stack([numbers, numbers], axis=1)])
        links = links[np.isin(links[:, 0], numbers) & np.isin(links[:, 1], pool)]
        pairs = np.searchsorted(numbers, links[:, 0]) * len(pool) + np.searchsorted(pool, links[:, 1])
        barred = np.stack(np.divmod(np.unique(pairs), max(1, len(pool))), axis=1)
        return cls(cluster, len(pool), numbers, of_query, barred)

    def barred_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Queries, in ascending order, and positions of the clusters that they exclude."""
        first, end = (np.searchsorted(self.barred[:, 0], self.of_query, side) for side in ("left", "right"))
        return np.repeat(np.arange(len(first)), end - first), self.barred[ranges(first, end), 1]

    def bars(self, cluster: np.ndarray) -> np.ndarray:
        """Whether each query excludes each of the clusters at these positions, (Q, k) bool."""
        barred = self.barred[:, 0] * self.count + self.barred[:, 1]
        return np.isin(self.of_query[:, None] * self.count + cluster, barred)


def _integers(array: Any, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Converts an array to int64 and checks its shape; None means any length."""
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
            # The sum is not finite if a number is not, and is the fastest check.
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
    """`first_of_each_cluster` without checks."""
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
    """Negatives from candidates, with scores; queries with too few candidates are searched exactly."""
    chosen = _first(candidates, others, negatives)
    short = np.flatnonzero(chosen[:, -1] < 0)
    barred = replace(others, of_query=others.of_query[short]).barred_pairs()
    chosen[short] = nearest_clusters(queries[short], pool, others.cluster, negatives, barred)[0]
    scores = [np.einsum("qd,qd->q", queries, pool[column]) for column in chosen.T]
    return chosen, np.stack(scores, axis=1)
