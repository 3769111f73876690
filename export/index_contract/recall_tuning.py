"""Tuning of approximate search: measures the fastest numbers of leaves and candidates that reach a required recall.

The held-out queries are random photos of the collection, or with crops random crops; the photo of a query is excluded
from its neighbours. Recall@k is the share of the k photos found by a search that are among the k nearest photos by
exact search over the original descriptors. Photos with the same score as the k-th nearest photo count as nearest photos
as well, so that duplicates of a photo do not count as errors.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_retrieval.ranking.grouped import nearest_groups
from keras_retrieval.ranking.nearest import nearest

from .index_settings import IndexSettings
from .photo_crops import PhotoCrops

QUERIES = 500  # queries for tuning; the result is reported on twice as many further queries
TIES = 20  # photos after the k-th nearest whose scores are compared with that of the k-th
BATCH = 100  # queries per search call
_LEAF_SHARES = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100, 150, 220, 330, 500, 1000)  # thousandths
_CANDIDATES_PER_K = (1, 2, 3, 5, 10, 20, 50)
_ERRORS = 2  # standard errors by which the recall on the queries for tuning must exceed the required one
_PASSES, _LONG_ENOUGH = 3, 0.1  # passes over the queries to time a search, and seconds after which no other is started
_FINE_STEP = 1.12  # ratio of successive numbers of leaves, and of candidates, below the best of those above

Find = Callable[[np.ndarray, int, int, int], np.ndarray]
"""Approximate search with given settings.

(queries (Q, S), number of neighbours, number of candidates to rescore, number of leaves to search) -> numbers of
photos (Q, number of neighbours) by descending score, padded with -1.
"""


@dataclass(frozen=True)
class HeldOutQueries:
    """H held-out queries and their true nearest neighbours. Photos are numbered in the order of their rows.

    Attributes:
        ids: numbers of the query photos, (H,).
        queries: descriptors of the queries, (H, S), reduced like stored descriptors.
        truth: numbers of the k nearest other photos, and of photos with the score of the k-th, (H, T), padded with
            -1.
        k: number of neighbours in recall@k.
    """

    ids: np.ndarray
    queries: np.ndarray
    truth: np.ndarray
    k: int

    def recalls(self, found: np.ndarray) -> np.ndarray:
        """Computes recall@k of the results of a search for each query, (H,), from 0 to 1.

        Args:
            found: numbers of the photos that the search found for each query, (H, k + 1) by descending score, padded
                with -1; the query itself may be among them and is ignored.
        """
        others = found != self.ids[:, None]
        counted = others & (others.cumsum(axis=1) <= self.k) & (found >= 0)
        # Each pair of a query and a row number is encoded as one number, so that a single look-up handles all queries.
        first = np.arange(len(self.ids))[:, None] * (1 + max(found.max(), self.truth.max()))
        counted &= np.isin(first + found, (first + self.truth)[self.truth >= 0])
        return counted.sum(axis=1) / self.k

    def recall(self, found: np.ndarray) -> float:
        """Computes recall@k of the results of a search, from 0 to 1: the mean of `recalls`."""
        return float(self.recalls(found).mean())


def hold_out(
    originals: Iterable[np.ndarray],
    count: int,
    k: int,
    to_stored: Callable[[np.ndarray], np.ndarray],
    crops: PhotoCrops | None = None,
) -> tuple[HeldOutQueries, HeldOutQueries] | None:
    """Draws two sets of queries, for tuning and for reporting, and finds their true neighbours by exact search.

    Args:
        originals: original descriptors (N, D), in blocks; iterated more than once.
        count: N, the number of photos.
        k: number of neighbours in recall@k; at most the number of other photos is used.
        to_stored: function that reduces descriptors (n, D) to stored descriptors (n, S).
        crops: the crops of the photos, of which each is then one of R possible queries; None for one row per photo.

    Returns:
        Two sets of up to 500 and up to 1,000 queries; None if there are fewer than two photos.
    """
    if count < 2:
        return None
    rows = np.random.default_rng(0).permutation(count if crops is None else len(crops.boxes))[: 3 * QUERIES]
    queries = _pick(originals, rows)
    k = min(k, count - 1)
    depth = min(k + 1 + TIES, count)
    if crops is None:
        ids = rows
        found, scores = nearest(queries, originals, depth)
    else:
        ids = crops.photo_of[rows]
        found, scores = nearest_groups(queries, originals, crops.starts, depth)
    truth = _true_neighbours(found, scores, ids, k)
    first = -(-len(ids) // 3)
    tuning, reporting = (
        HeldOutQueries(ids[part], to_stored(queries[part]), truth[part], k)
        for part in (slice(first), slice(first, None))
    )
    return tuning, reporting


def _pick(originals: Iterable[np.ndarray], ids: np.ndarray) -> np.ndarray:
    rows: dict[int, np.ndarray] = {}
    first, order = 0, np.sort(ids)
    for block in originals:
        inside = order[np.searchsorted(order, first) : np.searchsorted(order, first + len(block))]
        rows |= dict(zip(inside.tolist(), block[inside - first], strict=True))
        first += len(block)
    return np.stack([rows[row] for row in ids.tolist()])


def _true_neighbours(found: np.ndarray, scores: np.ndarray, ids: np.ndarray, k: int) -> np.ndarray:
    scores = np.where(found == ids[:, None], -np.inf, scores)
    least = np.sort(scores, axis=1)[:, -k, None]
    return np.where(scores >= least - 1e-6, found, -1)


class _Tried(NamedTuple):
    """The recall with some settings, less two standard errors, and the time for all queries in seconds."""

    recall: float
    surely: float
    seconds: float
    reorder: int
    leaves: int


def tune(
    find: Find, held_out: tuple[HeldOutQueries, HeldOutQueries], settings: IndexSettings, leaves: int
) -> dict[str, Any]:
    """Finds the fastest settings of an approximate search that reach the required recall.

    The settings are chosen on the first set of queries, on which the recall must be reached with a margin of two
    standard errors, since it varies between sets of queries. Recall and speed are then measured on the second. Coarse
    numbers of leaves and candidates are searched first, and then finer ones below the fastest of these.

    Args:
        find: function that runs the approximate search.
        held_out: the two sets of queries from `hold_out`.
        settings: settings with the required `recall`; `reorder` and `leaves_to_search` are not tuned if they are set.
        leaves: number of leaves of the tree; 0 without a tree.

    Returns:
        A dict with "reorder" (number of candidates to rescore), "leaves_to_search", "recall" (0 to 1) and
        "queries_per_second". If no settings reach the recall, those with the highest recall are returned.
    """
    tuning, reporting = held_out
    tried: list[_Tried] = []

    def measured(reorder: int, searched: int) -> _Tried:
        tried.append(_measure(find, tuning, reorder, searched))
        return tried[-1]

    def enough(reorder: int, searched: int) -> bool:
        return measured(reorder, searched).surely >= settings.recall

    candidates, values = _reorder_values(settings), _leaf_values(settings, leaves)
    least = bisect_left(values, True, key=lambda searched: enough(candidates[-1], searched))
    # More leaves need fewer candidates. They are tried as long as that can be faster.
    most, fastest = (
        len(candidates) - 1,
        min((one.seconds for one in tried if one.leaves in values[least:][:1]), default=0),
    )
    for searched in values[least:]:
        while most:
            if not enough(candidates[most - 1], searched):
                break
            most, fastest = most - 1, min(fastest, tried[-1].seconds)
        if not most or tried[-1].seconds > fastest:
            break
    reached = [one for one in tried if one.surely >= settings.recall]
    if reached:
        # Fewer of both cannot be slower, whatever was measured while other work shared the cores.
        least_of_both = [one for one in reached if not any(_is_less(other, one) for other in reached)]
        best = min(least_of_both, key=lambda one: one.seconds)
        reorder, searched = best.reorder, best.leaves
        searched = _least(_between(values, searched), lambda value: enough(reorder, value))
        reorder = _least(_between(candidates, reorder), lambda value: enough(value, searched))
    else:
        best = max(tried, key=lambda one: one.recall)
        reorder, searched = best.reorder, best.leaves
    one = _measure(find, reporting, reorder, searched)
    return {
        "reorder": reorder,
        "leaves_to_search": searched,
        "recall": round(one.recall, 4),
        "queries_per_second": round(len(reporting.ids) / one.seconds, 1),
    }


def _is_less(one: _Tried, other: _Tried) -> bool:
    """Whether a search looks at fewer leaves or candidates than another, and not at more of the others."""
    return (
        (one.reorder, one.leaves) != (other.reorder, other.leaves)
        and one.reorder <= other.reorder
        and one.leaves <= other.leaves
    )


def _between(values: Sequence[int], chosen: int) -> list[int]:
    """The numbers above the value before the chosen one, up to the chosen one, in fine steps."""
    before = max((value for value in values if value < chosen), default=chosen)
    if before == chosen:
        return [chosen]
    steps = math.ceil(math.log(chosen / before) / math.log(_FINE_STEP))
    fine = {round(before * (chosen / before) ** (step / steps)) for step in range(1, steps)}
    return [*sorted(fine - {before, chosen}), chosen]


def _least(values: Sequence[int], enough: Callable[[int], bool]) -> int:
    """The least value that is enough, found by bisection; the last one is known to be."""
    return values[bisect_left(values[:-1], True, key=enough)]


def _reorder_values(settings: IndexSettings) -> list[int]:
    if settings.reorder is not None:
        return [settings.reorder]
    return [times * (settings.k + 1) for times in _CANDIDATES_PER_K]


def _leaf_values(settings: IndexSettings, leaves: int) -> list[int]:
    if not leaves:
        return [0]
    if settings.leaves_to_search is not None:
        return [min(settings.leaves_to_search, leaves)]
    return sorted({max(1, round(leaves * share / 1000)) for share in _LEAF_SHARES})


def _measure(find: Find, held_out: HeldOutQueries, reorder: int, leaves: int) -> _Tried:
    """Measures a search with these settings: the time of the fastest of up to `_PASSES` passes over the queries."""
    seconds, ended = math.inf, time.monotonic() + _LONG_ENOUGH
    for _ in range(_PASSES):
        started = time.monotonic()
        found = [
            find(held_out.queries[start : start + BATCH], held_out.k + 1, reorder, leaves)
            for start in range(0, len(held_out.ids), BATCH)
        ]
        now = time.monotonic()
        seconds = min(seconds, now - started)
        if now >= ended:
            break
    recalls = held_out.recalls(np.concatenate(found))
    error = float(recalls.std()) / math.sqrt(len(recalls))
    recall = float(recalls.mean())
    return _Tried(recall, max(0.0, recall - _ERRORS * error), max(seconds, 1e-9), reorder, leaves)
