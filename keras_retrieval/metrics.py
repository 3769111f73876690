"""How good a ranking is: average precision with junk, mP@k, the revisited protocols, recall@N, the N-S score.

All functions take `ranks` as the field stores it: (depth, queries) integers, column q lists the database
indexes for query q, best first. `depth` may be less than the database: what a shortened list does not hold
counts as never found. Relevant images come as one index array per query; an image that is both positive and junk
is a positive. The ranking is read once, through a
table of the labelled images; everything after works on the few positions found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Indexes = Sequence[np.ndarray]

# Columns are transposed a few at a time: 8 int64 share a cache line, and a copy of all would double the memory.
_COLUMNS = 8


@dataclass(frozen=True)
class RetrievalScores:
    """Precision of a set of queries under one protocol.

    Attributes:
        ap: (queries,) average precision; NaN where a query has no positive.
        precision: (queries, len(ks)) precision at the cut-offs; NaN where a query has no positive.
        ks: the cut-offs.
    """

    ap: np.ndarray
    precision: np.ndarray
    ks: tuple[int, ...]

    @property
    def mean_ap(self) -> float:
        """mAP over the queries that have positives; NaN if none has."""
        return _mean(self.ap)

    @property
    def mean_precision(self) -> dict[int, float]:
        """mP@k for each cut-off, over the queries that have positives."""
        return {k: _mean(column) for k, column in zip(self.ks, self.precision.T, strict=True)}


def average_precision(positions: np.ndarray, positives: int) -> float:
    """Area under the precision-recall curve by the trapezoidal rule of the Oxford Buildings protocol.

    Philbin et al., CVPR 2007. The mean of the precision before and at each positive, weighted by 1 / positives.

    Args:
        positions: (found,) zero-based positions of the positives in the ranking without junk, rising.
        positives: how many positives there are, found or not.

    Returns:
        A number in 0..1; NaN if there are no positives.
    """
    if positives == 0:
        return float("nan")
    order = np.arange(len(positions))
    before = np.where(positions == 0, 1.0, order / np.maximum(positions, 1))
    return float(np.sum(before + (order + 1) / (positions + 1)) / (2 * positives))


def precision_at(positions: np.ndarray, positives: int, k: int) -> float:
    """Precision among the first k, where k is cut to the rank of the last positive (Radenovic et al., CVPR 2018).

    Args:
        positions: as for `average_precision`.
        positives: how many positives there are, found or not.
        k: the cut-off, 1 or more.

    Returns:
        A number in 0..1; NaN if there are no positives.
    """
    if positives == 0:
        return float("nan")
    complete = len(positions) >= positives
    depth = min(k, int(positions[-1]) + 1) if complete else k
    return float(np.count_nonzero(positions < depth) / depth)


def positive_positions(ranks: np.ndarray, positives: Indexes, junk: Indexes | None = None) -> list[np.ndarray]:
    """Where the positives stand in each query's ranking once the junk is taken out.

    Args:
        ranks: (depth, queries) database indexes, best first.
        positives: one index array per query.
        junk: one index array per query; None for none.

    Returns:
        One rising array of zero-based positions per query.

    Raises:
        ValueError: shapes or indexes do not fit, or a ranking lists a positive twice.
    """
    labels = [positives] if junk is None else [positives, junk]
    return [_without_junk(*found, 1, 2) for found in _labelled(ranks, labels)]


def retrieval(
    ranks: np.ndarray, positives: Indexes, junk: Indexes | None = None, ks: Sequence[int] = (1, 5, 10)
) -> RetrievalScores:
    """Average precision and precision at k with one set of positives: the protocol of Oxford5k, Paris6k, Holidays.

    A query photo that must not find itself (Holidays) is put into its own junk.

    Args:
        ranks: (depth, queries) database indexes, best first.
        positives: one index array per query.
        junk: one index array per query of what is taken out of the ranking; None for none.
        ks: cut-offs of the precision.

    Returns:
        The scores per query.

    Raises:
        ValueError: as `positive_positions`.
    """
    positions = positive_positions(ranks, positives, junk)
    return _scores(positions, [len(np.unique(p)) for p in positives], ks)


def revisited(
    ranks: np.ndarray, easy: Indexes, hard: Indexes, junk: Indexes, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, RetrievalScores]:
    """The three protocols of revisited Oxford and Paris (Radenovic et al., CVPR 2018).

    Easy finds `easy` and takes `hard` out with the junk; medium finds both; hard finds `hard` and takes `easy` out.

    Args:
        ranks: (depth, queries) database indexes, best first.
        easy: one index array per query.
        hard: one index array per query.
        junk: one index array per query.
        ks: cut-offs of the precision.

    Returns:
        `{"easy": ..., "medium": ..., "hard": ...}`, each with every query.

    Raises:
        ValueError: as `positive_positions`.
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
    """The position of each query's first positive, as recall@N needs it.

    Args:
        ranks: (depth, queries) database indexes, best first.
        positives: one index array per query; empty ones are never hit.
        panoramas: (database,) number of the panorama of each database image. Only the best-ranked cut-out
            of a panorama keeps its place, as Tokyo 24/7 is measured (Arandjelovic et al., CVPR 2016).

    Returns:
        (queries,) float64: zero-based positions, infinity where there is no hit.

    Raises:
        ValueError: as `positive_positions`, or an image without a panorama's number.
    """
    if panoramas is None:
        positions = positive_positions(ranks, positives)
        return np.array([p[0] if len(p) else np.inf for p in positions], "float64")
    _check(ranks, [positives])
    if ranks.size and ranks.max() >= len(panoramas):
        raise ValueError(f"panoramas has {len(panoramas)} entries, and ranks holds index {ranks.max()}")
    pairs = zip(ranks.T, positives, strict=True)
    return np.array([_first_panorama(column, wanted, panoramas) for column, wanted in pairs], "float64")


def recall_at(hits: np.ndarray, ns: Sequence[int] = (1, 5, 10, 20)) -> dict[int, float]:
    """Share of queries with a positive among their first N; queries without positives stay in the denominator.

    Args:
        hits: (queries,) what `first_hits` returns.
        ns: the values of N.

    Returns:
        N -> recall in 0..1; NaN without queries.
    """
    return {n: float(np.mean(hits < n)) if len(hits) else float("nan") for n in ns}


def ns_scores(ranks: np.ndarray, positives: Indexes) -> np.ndarray:
    """UKBench's score (Nister and Stewenius, CVPR 2006): how many of an object's four photos are in the first four.

    Args:
        ranks: (depth, queries) database indexes, best first.
        positives: one array per query of its object's four photos, the query among them.

    Returns:
        (queries,) counts in 0..4; their mean is the N-S score.

    Raises:
        ValueError: as `positive_positions`.
    """
    positions = positive_positions(ranks[:4], positives)
    return np.array([len(p) for p in positions], "int64")


def precision_recall(positions: Indexes, positives: Sequence[int], levels: np.ndarray) -> np.ndarray:
    """The mean interpolated precision-recall curve, for a plot.

    Interpolated precision at a recall is the highest precision at that recall or a higher one.

    Args:
        positions: what `positive_positions` returns.
        positives: how many positives each query has, found or not.
        levels: (levels,) recall values in 0..1.

    Returns:
        (levels,) precision, the mean over the queries that have positives; NaN if none has.
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
    """Per query the positions that carry a label, rising, and their labels: bit i for `labels[i]`."""
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
        raise ValueError(f"ranks, query {query}: an image stands twice in the ranking")
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
        raise ValueError(f"ranks must be (depth, queries) integers, not {ranks.dtype} of shape {ranks.shape}")
    if any(len(label) != ranks.shape[1] for label in labels):
        counts = ", ".join(str(len(label)) for label in labels)
        raise ValueError(f"ranks has {ranks.shape[1]} queries, the relevant images are given for {counts}")
    lowest = min((int(np.min(indexes)) for label in labels for indexes in label if len(indexes)), default=0)
    if min(lowest, int(ranks.min(initial=0))) < 0:
        raise ValueError("indexes of images must be 0 or more")
