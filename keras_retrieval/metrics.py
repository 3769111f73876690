"""Metrics of rankings: average precision, mP@k, the revisited protocols, recall@N and the N-S score.

A set of rankings is an array `ranks` of (depth, queries) integers, the layout of the published evaluation code. Column
q lists the indexes of database images for query q, best first. `depth` may be smaller than the number of database
images, and images that are not listed count as not found.

The ground truth is one array of database indexes per query for each label. Positives are the images that show the
object of the query. Junk images are removed from the ranking before it is scored, so that they count neither as right
nor as wrong. An image that is labelled both positive and junk counts as positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import ArgumentError

Indexes = Sequence[np.ndarray]

_COLUMNS = 8  # columns that are transposed at a time, so that `ranks` is not copied whole: 8 int64 fill a cache line


@dataclass(frozen=True)
class RetrievalScores:
    """Average precision and precision at k of each query.

    Attributes:
        ap: the average precision of each query, (queries,); NaN for a query without positives.
        precision: the precision at the cut-offs, (queries, len(ks)); NaN for a query without positives.
        ks: the cut-offs k, the columns of `precision`.
    """

    ap: np.ndarray
    precision: np.ndarray
    ks: tuple[int, ...]

    @property
    def mean_ap(self) -> float:
        """The mean average precision (mAP) over the queries that have positives; NaN if no query has any."""
        return _mean(self.ap)

    @property
    def mean_precision(self) -> dict[int, float]:
        """The mean precision at k (mP@k) for each cut-off k, over the queries that have positives; NaN if none has."""
        return {k: _mean(column) for k, column in zip(self.ks, self.precision.T, strict=True)}


def average_precision(positions: np.ndarray, positives: int) -> float:
    """Computes the average precision of one query, as in the Oxford Buildings protocol (Philbin et al. CVPR 2007).

    Average precision is the area under the precision-recall curve by the trapezoidal rule. For each positive, the
    precision just before its position and the precision at its position are averaged; the result is the mean of these
    averages over all positives. A positive that is not found contributes 0.

    Args:
        positions: zero-based positions of the positives that were found, in the ranking without junk, (found,)
            integers in ascending order.
        positives: total number of positives, found or not.

    Returns:
        The average precision in 0..1; NaN if there are no positives.
    """
    if positives == 0:
        return float("nan")
    order = np.arange(len(positions))
    before = np.where(positions == 0, 1.0, order / np.maximum(positions, 1))
    return float(np.sum(before + (order + 1) / (positions + 1)) / (2 * positives))


def precision_at(positions: np.ndarray, positives: int, k: int) -> float:
    """Computes the precision at k of one query, as in the revisited protocols (Radenovic et al. CVPR 2018).

    This is the fraction of positives among the first k images of the ranking without junk. If all positives were found
    and the last one has a rank below k, then this rank is used instead of k.

    Args:
        positions: zero-based positions of the positives that were found, in the ranking without junk, (found,)
            integers in ascending order.
        positives: total number of positives, found or not.
        k: the cut-off, at least 1.

    Returns:
        The precision in 0..1; NaN if there are no positives.
    """
    if positives == 0:
        return float("nan")
    complete = len(positions) >= positives
    depth = min(k, int(positions[-1]) + 1) if complete else k
    return float(np.count_nonzero(positions < depth) / depth)


def positive_positions(ranks: np.ndarray, positives: Indexes, junk: Indexes | None = None) -> list[np.ndarray]:
    """Finds the positions of the positives in each query's ranking after the junk images are removed.

    Args:
        ranks: the ranking of each query, (depth, queries) database indexes, best first.
        positives: the positives of each query, one array of database indexes per query.
        junk: the junk images of each query, one array of database indexes per query; None for no junk.

    Returns:
        One array of zero-based positions per query, in ascending order. Positives that are not in `ranks` are omitted.

    Raises:
        ArgumentError: `ranks` is not a two-dimensional array of integers, `positives` or `junk` does not have one array
            per query, an index is negative, or a ranking contains a positive or a junk image twice.
    """
    labels = [positives] if junk is None else [positives, junk]
    return [_without_junk(*found, 1, 2) for found in _labelled(ranks, labels)]


def retrieval(
    ranks: np.ndarray, positives: Indexes, junk: Indexes | None = None, ks: Sequence[int] = (1, 5, 10)
) -> RetrievalScores:
    """Computes average precision and precision at k, as in the protocols of Oxford5k, Paris6k and Holidays.

    In Holidays each query is also a database image that must not count: add the index of the query to the junk of that
    query.

    Args:
        ranks: the ranking of each query, (depth, queries) database indexes, best first.
        positives: the positives of each query, one array of database indexes per query.
        junk: the images to remove from the ranking of each query, one array of database indexes per query; None for no
            junk.
        ks: the cut-offs k of the precision, each at least 1.

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

    The positives are the `easy` images in the easy protocol, the `easy` and the `hard` images in the medium protocol,
    and the `hard` images in the hard protocol. In the easy protocol the `hard` images count as junk, and in the hard
    protocol the `easy` images do. The `junk` images are junk in all three.

    Args:
        ranks: the ranking of each query, (depth, queries) database indexes, best first.
        easy: the easy positives of each query, one array of database indexes per query.
        hard: the hard positives of each query, one array of database indexes per query.
        junk: the junk images of each query, one array of database indexes per query.
        ks: the cut-offs k of the precision, each at least 1.

    Returns:
        A dict from the protocol, "easy", "medium" or "hard", to the scores of each query.

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
    """Finds the position of the first positive in each query's ranking, the input of `recall_at`.

    Args:
        ranks: the ranking of each query, (depth, queries) database indexes, best first.
        positives: the positives of each query, one array of database indexes per query, which may be empty.
        panoramas: for databases of images that are cut out of panoramas: the number of each database image's panorama,
            (database,) integers. Only the best-ranked image of each panorama then stays in the ranking, as in the
            protocol of Tokyo 24/7 (Arandjelovic et al. CVPR 2016). None keeps all images.

    Returns:
        Zero-based positions, (queries,) float64; infinity for a query without a positive in its ranking.

    Raises:
        ArgumentError: `ranks` is not a two-dimensional array of integers; `positives` does not have one array per
            query; an index is negative; `panoramas` is shorter than the indexes in `ranks` require; or a ranking
            contains a positive twice, which is allowed only with `panoramas`.
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
    """Computes recall@N, the fraction of queries with at least one positive among the first N images of their ranking.

    Queries without positives are counted as not found.

    Args:
        hits: the zero-based position of each query's first positive, (queries,), from `first_hits`.
        ns: the values of N, each at least 1.

    Returns:
        A dict from each N to the recall in 0..1, which is NaN if there are no queries.
    """
    return {n: float(np.mean(hits < n)) if len(hits) else float("nan") for n in ns}


def ns_scores(ranks: np.ndarray, positives: Indexes) -> np.ndarray:
    """Computes the score of each query on UKBench (Nister and Stewenius CVPR 2006).

    The score is the number of images of the query's object among the first four images of the ranking.

    Args:
        ranks: the ranking of each query, (depth, queries) database indexes, best first.
        positives: the four images of each query's object, which include the query itself, one array of database indexes
            per query.

    Returns:
        The scores, (queries,) int64 in 0..4. Their mean over the queries is the N-S score.

    Raises:
        ArgumentError: in the same cases as `positive_positions`.
    """
    positions = positive_positions(ranks[:4], positives)
    return np.array([len(p) for p in positions], "int64")


def precision_recall(positions: Indexes, positives: Sequence[int], levels: np.ndarray) -> np.ndarray:
    """Computes the interpolated precision-recall curve, averaged over queries.

    The interpolated precision at a recall r is the highest precision at any recall of at least r.

    Args:
        positions: the positions of each query's positives, as `positive_positions` returns them.
        positives: total number of positives of each query, found or not.
        levels: the recall values in 0..1 at which the curve is computed, (L,).

    Returns:
        The mean precision at each of the L recall values, (L,), over the queries that have positives; NaN if no query
        has any.
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
    """Finds the labelled images in each query's ranking.

    Returns:
        For each query the positions of the images that have a label, ascending, and the labels of these images as bit
        masks, in which bit i is set if the image is in `labels[i]`.
    """
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
