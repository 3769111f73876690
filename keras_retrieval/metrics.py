"""Metrics of rankings: average precision with junk, mP@k, the revisited protocols, recall@N and the N-S score.

All functions take `ranks` as the published code stores it: (depth, queries) integers, where column q lists the database
indexes for query q, best first. `depth` can be smaller than the database; images beyond it count as not found. Relevant
images are given as one array of indexes per query. An image that is both positive and junk counts as positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import ArgumentError

Indexes = Sequence[np.ndarray]

_COLUMNS = 8  # columns that are transposed at a time: the int64 of a cache line, without a copy of all


@dataclass(frozen=True)
class RetrievalScores:
    """Average precision and precision at k of queries under one protocol.

    Attributes:
        ap: the average precision of each query, (queries,); NaN for a query without positives.
        precision: the precision at the cut-offs, (queries, len(ks)); NaN for a query without positives.
        ks: the cut-offs k.
    """

    ap: np.ndarray
    precision: np.ndarray
    ks: tuple[int, ...]

    @property
    def mean_ap(self) -> float:
        """mAP over the queries that have positives; NaN if there is no such query."""
        return _mean(self.ap)

    @property
    def mean_precision(self) -> dict[int, float]:
        """mP@k for each cut-off, over the queries that have positives."""
        return {k: _mean(column) for k, column in zip(self.ks, self.precision.T, strict=True)}


def average_precision(positions: np.ndarray, positives: int) -> float:
    """Computes the area under the precision-recall curve by the trapezoidal rule, as in the Oxford Buildings protocol.

    It is the mean over the positives of the precision just before and at each one (Philbin et al. CVPR 2007).

    Args:
        positions: zero-based positions of the positives in the ranking without junk, (found,), in ascending order.
        positives: number of positives, found or not.

    Returns:
        A number in 0..1; NaN if there are no positives.
    """
    if positives == 0:
        return float("nan")
    order = np.arange(len(positions))
    before = np.where(positions == 0, 1.0, order / np.maximum(positions, 1))
    return float(np.sum(before + (order + 1) / (positions + 1)) / (2 * positives))


def precision_at(positions: np.ndarray, positives: int, k: int) -> float:
    """Computes the precision among the first k, where k is at most the rank of the last positive.

    Published in Radenovic et al. CVPR 2018.

    Args:
        positions: zero-based positions of the positives in the ranking without junk, (found,), in ascending order.
        positives: number of positives, found or not.
        k: the cut-off, at least 1.

    Returns:
        A number in 0..1; NaN if there are no positives.
    """
    if positives == 0:
        return float("nan")
    complete = len(positions) >= positives
    depth = min(k, int(positions[-1]) + 1) if complete else k
    return float(np.count_nonzero(positions < depth) / depth)


def positive_positions(ranks: np.ndarray, positives: Indexes, junk: Indexes | None = None) -> list[np.ndarray]:
    """Finds the positions of the positives in each query's ranking after the junk is removed.

    Args:
        ranks: the ranking of each query, (depth, queries) database indexes, best first.
        positives: the positives of each query, one index array per query.
        junk: the images to ignore, one index array per query; None for no junk.

    Returns:
        One array of zero-based positions per query, in ascending order.

    Raises:
        ArgumentError: shapes or indexes do not fit, or a ranking contains an image twice.
    """
    labels = [positives] if junk is None else [positives, junk]
    return [_without_junk(*found, 1, 2) for found in _labelled(ranks, labels)]


def retrieval(
    ranks: np.ndarray, positives: Indexes, junk: Indexes | None = None, ks: Sequence[int] = (1, 5, 10)
) -> RetrievalScores:
    """Computes average precision and precision at k, as in the protocols of Oxford5k, Paris6k and Holidays.

    If a query is part of the database and must not count (Holidays), list it in its own junk.

    Args:
        ranks: the ranking of each query, (depth, queries) database indexes, best first.
        positives: the positives of each query, one index array per query.
        junk: the images to remove from the ranking, one index array per query; None for no junk.
        ks: cut-offs of the precision.

    Returns:
        The scores of each query.

    Raises:
        ArgumentError: in the same cases as `positive_positions`.
    """
    positions = positive_positions(ranks, positives, junk)
    return _scores(positions, [len(np.unique(p)) for p in positives], ks)


def revisited(
    ranks: np.ndarray, easy: Indexes, hard: Indexes, junk: Indexes, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, RetrievalScores]:
    """Computes the scores of the three protocols of revisited Oxford and Paris (Radenovic et al. CVPR 2018).

    The positives are `easy` in the easy protocol, `easy` and `hard` in the medium one, and `hard` in the hard one. In
    the easy and hard protocols the other positives count as junk.

    Args:
        ranks: the ranking of each query, (depth, queries) database indexes, best first.
        easy: the easy positives, one index array per query.
        hard: the hard positives, one index array per query.
        junk: the images to ignore, one index array per query.
        ks: cut-offs of the precision.

    Returns:
        `{"easy": ..., "medium": ..., "hard": ...}`, each with the scores of every query.

    Raises:
        ArgumentError: in the same cases as `positive_positions`.
    """
    found = _labelled(ranks, [easy, hard, junk])
    protocols = {"easy": ([easy], 1, 6), "medium": ([easy, hard], 3, 4), "hard": ([hard], 2, 5)}
    scores = {}
    for name, (sets, positive_bits, junk_bits) in protocols.items():
        positions = [_without_junk(*one, positive_bits, junk_bits) for one in found]
        counts = [len(np.unique(np.concatenate(parts))) for parts in zip(*sets, strict=True)]
        scores[name] = _scores(positions, counts, ks)
    return scores


def first_hits(ranks: np.ndarray, positives: Indexes, panoramas: np.ndarray | None = None) -> np.ndarray:
    """Finds the position of each query's first positive, for `recall_at`.

    Args:
        ranks: the ranking of each query, (depth, queries) database indexes, best first.
        positives: the positives of each query, one index array per query, which may be empty.
        panoramas: the number of the panorama of each database image, (database,). Only the best-ranked cut-out of a
            panorama stays in the ranking, as in the protocol of Tokyo 24/7 (Arandjelovic et al. CVPR 2016).

    Returns:
        Zero-based positions, (queries,) float64; infinity if no positive is found.

    Raises:
        ArgumentError: in the same cases as `positive_positions`, or `panoramas` has no number for an image.
    """
    if panoramas is None:
        positions = positive_positions(ranks, positives)
        return np.array([p[0] if len(p) else np.inf for p in positions], "float64")
    _check(ranks, [positives])
    if ranks.size and ranks.max() >= len(panoramas):
        raise ArgumentError(f"panoramas has {len(panoramas)} entries, but ranks contains the index {ranks.max()}")
    pairs = zip(ranks.T, positives, strict=True)
    return np.array([_first_panorama(column, wanted, panoramas) for column, wanted in pairs], "float64")


def recall_at(hits: np.ndarray, ns: Sequence[int] = (1, 5, 10, 20)) -> dict[int, float]:
    """Computes recall@N: the fraction of queries with a positive among the first N.

    Queries without positives are included in the denominator.

    Args:
        hits: the position of the first positive of each query, (queries,), from `first_hits`.
        ns: the values of N.

    Returns:
        The recall in 0..1 for each N; NaN if there are no queries.
    """
    return {n: float(np.mean(hits < n)) if len(hits) else float("nan") for n in ns}


def ns_scores(ranks: np.ndarray, positives: Indexes) -> np.ndarray:
    """Computes the score of UKBench: the number of photos of the query's object among the first four.

    Published in Nister and Stewenius CVPR 2006.

    Args:
        ranks: the ranking of each query, (depth, queries) database indexes, best first.
        positives: the four photos of the object, including the query, one index array per query.

    Returns:
        The counts, (queries,), in 0..4; their mean is the N-S score.

    Raises:
        ArgumentError: in the same cases as `positive_positions`.
    """
    positions = positive_positions(ranks[:4], positives)
    return np.array([len(p) for p in positions], "int64")


def precision_recall(positions: Indexes, positives: Sequence[int], levels: np.ndarray) -> np.ndarray:
    """Computes the mean interpolated precision-recall curve, for a plot.

    The interpolated precision at a recall is the highest precision at that or a higher recall.

    Args:
        positions: the positions from `positive_positions`.
        positives: number of positives of each query, found or not.
        levels: the recall values, (levels,), in 0..1.

    Returns:
        The precision at each level, (levels,), as the mean over the queries that have positives; NaN if there is no
        such query.
    """
    pairs = zip(positions, positives, strict=True)
    curves = [_interpolated(found, count, levels) for found, count in pairs if count]
    return np.mean(curves, axis=0) if curves else np.full(len(levels), np.nan)


def _interpolated(positions: np.ndarray, positives: int, levels: np.ndarray) -> np.ndarray:
    order = np.arange(1, len(positions) + 1)
    best = np.maximum.accumulate((order / (positions + 1))[::-1])[::-1]
    reached = np.searchsorted(order / positives, levels - 1e-12)
    return np.append(best, 0.0)[reached]


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _scores(positions: Indexes, counts: Sequence[int], ks: Sequence[int]) -> RetrievalScores:
    pairs = list(zip(positions, counts, strict=True))
    ap = np.array([average_precision(*pair) for pair in pairs], "float64")
    precision = np.array([[precision_at(*pair, k) for k in ks] for pair in pairs], "float64")
    return RetrievalScores(ap, precision.reshape(len(pairs), len(ks)), tuple(ks))


def _labelled(ranks: np.ndarray, labels: Sequence[Indexes]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each query, the ascending positions of images with a label, and their labels: bit i means `labels[i]`."""
    _check(ranks, labels)
    largest = max((int(np.max(indexes)) for label in labels for indexes in label if len(indexes)), default=-1)
    table = np.zeros(max(largest, int(ranks.max(initial=-1))) + 1, "uint8")
    found = []
    for start in range(0, ranks.shape[1], _COLUMNS):
        columns = np.ascontiguousarray(ranks[:, start : start + _COLUMNS].T)
        for query, column in enumerate(columns, start):
            own = [np.asarray(label[query], "int64") for label in labels]
            found.append(_look_up(column, own, table, query))
    return found


def _look_up(column: np.ndarray, own: list[np.ndarray], table: np.ndarray, query: int) -> tuple[np.ndarray, np.ndarray]:
    for bit, indexes in enumerate(own):
        table[indexes] |= 1 << bit
    bits = table[column]
    positions = np.flatnonzero(bits)
    labelled = np.concatenate(own)
    if len(positions) > np.count_nonzero(table[np.unique(labelled)]):
        raise ArgumentError(f"ranks of query {query} contain an image twice")
    table[labelled] = 0
    return positions, bits[positions]


def _without_junk(positions: np.ndarray, bits: np.ndarray, positive: int, junk: int) -> np.ndarray:
    is_positive = (bits & positive) != 0
    is_junk = ((bits & junk) != 0) & ~is_positive
    return (positions - np.cumsum(is_junk))[is_positive]


def _first_panorama(column: np.ndarray, wanted: np.ndarray, panoramas: np.ndarray) -> float:
    _, first = np.unique(panoramas[column], return_index=True)
    kept = column[np.sort(first)]
    hits = np.flatnonzero(np.isin(kept, wanted))
    return float(hits[0]) if len(hits) else np.inf


def _check(ranks: np.ndarray, labels: Sequence[Indexes]) -> None:
    if ranks.ndim != 2 or not np.issubdtype(ranks.dtype, np.integer):
        raise ArgumentError(f"ranks must be (depth, queries) integers, got {ranks.dtype} of the shape {ranks.shape}")
    if any(len(label) != ranks.shape[1] for label in labels):
        counts = ", ".join(str(len(label)) for label in labels)
        raise ArgumentError(f"ranks has {ranks.shape[1]} queries, but relevant images are given for {counts}")
    lowest = min((int(np.min(indexes)) for label in labels for indexes in label if len(indexes)), default=0)
    if min(lowest, int(ranks.min(initial=0))) < 0:
        raise ArgumentError("indexes of images must be at least 0")
