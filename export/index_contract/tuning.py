"""How an index searches, from its size, and how hard it has to look: measured on held queries until a recall holds.

A held query is a row of the collection, drawn at random, which does not count among its own neighbours. Recall@k is the
share of the k photos found that belong to the k nearest by exact search over the descriptors as they were given;
photos that are as near as the k-th count, so that copies of a photo are no errors.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_retrieval.ranking.nearest import nearest


@dataclass(frozen=True)
class Hashing:
    """How ScaNN's part is trained.

    Attributes:
        threshold: anisotropic quantization's T (Guo et al. ICML 2020); 0 for none.
        block: dimensions that share a code of four bits ("lut16") or eight ("lut256").
        lookup: "lut16" or "lut256".
        sample: rows that the tree and the codes are learned from, at most.
        iterations: of k-means.
        soar: weight of the orthogonal second leaf of each row (Sun et al. NeurIPS 2023); 0 for one leaf only.
    """

    threshold: float = 0.2
    block: int = 2
    lookup: str = "lut16"
    sample: int = 100_000
    iterations: int = 12
    soar: float = 1.5


EXACT_BELOW = 20_000  # where an exact search is as fast as an approximate one
TREE_FROM = 100_000  # where looking at every hash takes longer than a tree
HELD = 1_000  # queries to choose by, and as many others to report
TIES = 20  # photos beyond the k-th that may be as near as it
BATCH = 100
_EFFORTS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100, 150, 220, 330, 500, 1000)  # thousandths of the leaves
_REORDERS = (2, 3, 5, 10, 20, 50)  # times k

Find = Callable[[np.ndarray, int, int, int], np.ndarray]


@dataclass(frozen=True)
class IndexSettings:
    """What a user may ask of an index; None is chosen by the size or by measuring.

    Attributes:
        recall: recall@k to reach, 0..1.
        k: neighbours that a search usually asks for.
        exact: search exactly at any size.
        rows: the form of the stored descriptors, a key of `row_file.FORMS`.
        leaves: of the tree; 0 for none.
        leaves_to_search: of them.
        reorder: candidates that are scored by their stored descriptors.
        hashing: how ScaNN's part is trained.
    """

    recall: float = 0.95
    k: int = 10
    exact: bool = False
    rows: str = "float32"
    leaves: int | None = None
    leaves_to_search: int | None = None
    reorder: int | None = None
    hashing: Hashing = field(default_factory=Hashing)

    @classmethod
    def of(cls, asked: dict[str, Any]) -> "IndexSettings":
        """From what `dataclasses.asdict` made of them."""
        return cls(**asked | {"hashing": Hashing(**asked["hashing"])})

    def check(self, count: int, dimensions: int) -> None:
        """Refuses what cannot be, for so many rows of so many dimensions.

        Raises:
            ValueError: names the option and its bounds.
        """
        bounds = {
            "recall": (self.recall, 0, 1),
            "k": (self.k, 1, math.inf),
            "leaves": (self.leaves or 0, 0, count // 4),
            "leaves-to-search": (self.leaves_to_search or 1, 1, math.inf),
            "reorder": (self.reorder or 1, 1, math.inf),
            "block": (self.hashing.block, 1, dimensions),
            "sample": (self.hashing.sample, 16, math.inf),
            "iterations": (self.hashing.iterations, 1, math.inf),
            "threshold": (self.hashing.threshold, 0, 1),
            "soar": (self.hashing.soar, 0, math.inf),
        }
        for option, (value, least, most) in bounds.items():
            if not least <= value <= most:
                raise ValueError(f"--{option} is between {least} and {most}, not {value}")

    def tree(self, count: int) -> int | None:
        """The leaves for so many rows, 0 for hashes without a tree; None for exact search."""
        if self.exact or count < 16 or (count < EXACT_BELOW and self.leaves is None):
            return None
        leaves = self.leaves
        if leaves is None:
            leaves = round(math.sqrt(count)) if count >= TREE_FROM else 0
        return min(leaves, count // 4)


@dataclass(frozen=True)
class HeldOutQueries:
    """Held-out queries and their true neighbours.

    Attributes:
        ids: (H,) their own row numbers.
        queries: (H, S) as they are stored.
        truth: (H, T) row numbers of the nearest others and those as near, -1 fills up.
        k: how many count.
    """

    ids: np.ndarray
    queries: np.ndarray
    truth: np.ndarray
    k: int

    def recall(self, found: np.ndarray) -> float:
        """Of row numbers (H, k + 1), best first, which may hold the query itself."""
        hits = 0
        for own, row, true in zip(self.ids, found, self.truth, strict=True):
            hits += len(np.intersect1d(row[row != own][: self.k], true[true >= 0]))
        return hits / (self.k * len(self.ids))


def hold_out(
    originals: Iterable[np.ndarray], count: int, k: int, to_stored: Callable[[np.ndarray], np.ndarray]
) -> tuple[HeldOutQueries, HeldOutQueries] | None:
    """Draws held queries, to choose by and to report, and searches them exactly.

    Args:
        originals: (N, D) in pieces, which can be read again.
        count: N.
        k: of the recall; fewer where there are not so many others.
        to_stored: makes stored rows of originals.

    Returns:
        Two sets of up to 1,000; None where there are fewer than 2 rows.
    """
    if count < 2:
        return None
    ids = np.random.default_rng(0).permutation(count)[: 2 * HELD]
    queries = _picked(originals, ids)
    k = min(k, count - 1)
    found, scores = nearest(queries, originals, min(k + 1 + TIES, count))
    truth = _true(found, scores, ids, k)
    half = -(-len(ids) // 2)
    parts = [
        HeldOutQueries(ids[part], to_stored(queries[part]), truth[part], k) for part in (slice(half), slice(half, None))
    ]
    return parts[0], parts[1]


def _picked(originals: Iterable[np.ndarray], ids: np.ndarray) -> np.ndarray:
    rows: dict[int, np.ndarray] = {}
    first, order = 0, np.sort(ids)
    for block in originals:
        inside = order[np.searchsorted(order, first) : np.searchsorted(order, first + len(block))]
        rows |= dict(zip(inside.tolist(), block[inside - first], strict=True))
        first += len(block)
    return np.stack([rows[row] for row in ids.tolist()])


def _true(found: np.ndarray, scores: np.ndarray, ids: np.ndarray, k: int) -> np.ndarray:
    scores = np.where(found == ids[:, None], -np.inf, scores)
    least = np.sort(scores, axis=1)[:, -k, None]
    return np.where(scores >= least - 1e-6, found, -1)


def tune(
    find: Find, held: tuple[HeldOutQueries, HeldOutQueries], settings: IndexSettings, leaves: int
) -> dict[str, Any]:
    """The fastest leaves-to-search and reorder whose recall on the first held set is as asked.

    Args:
        find: (queries, count, reorder, leaves to search) -> row numbers (Q, count).
        held: from `hold_out`.
        settings: what was asked; numbers that it names are kept.
        leaves: of the tree; 0 without.

    Returns:
        reorder, leaves_to_search; and recall and queries_per_second on the second set. Where nothing reaches the
        recall, the numbers that come nearest.
    """
    choose, report = held
    tried: list[tuple[bool, float, float, int, int]] = []
    for reorder in _reorders(settings):
        for tries in _bisected(_leaves(settings, leaves)):
            recall, seconds = _measure(find, choose, reorder, tries.value)
            tried.append((recall >= settings.recall, -seconds, recall, reorder, tries.value))
            tries.enough = recall >= settings.recall
    reached = [row for row in tried if row[0]]
    _, _, _, reorder, searched = max(reached) if reached else max(tried, key=lambda row: (row[2], row[1]))
    recall, seconds = _measure(find, report, reorder, searched)
    rate = len(report.ids) / seconds
    return {
        "reorder": reorder,
        "leaves_to_search": searched,
        "recall": round(recall, 4),
        "queries_per_second": round(rate, 1),
    }


class _Try:
    """A value to try, and whether it was enough."""

    def __init__(self, value: int) -> None:
        self.value, self.enough = value, False


def _bisected(values: Sequence[int]) -> Iterator[_Try]:
    """Halves the rising values until the least that is enough has been tried."""
    low, high = 0, len(values) - 1
    while low <= high:
        middle = (low + high) // 2
        tried = _Try(values[middle])
        yield tried
        low, high = (low, middle - 1) if tried.enough else (middle + 1, high)


def _reorders(settings: IndexSettings) -> list[int]:
    if settings.reorder is not None:
        return [settings.reorder]
    return [times * (settings.k + 1) for times in _REORDERS]


def _leaves(settings: IndexSettings, leaves: int) -> list[int]:
    if not leaves:
        return [0]
    if settings.leaves_to_search is not None:
        return [min(settings.leaves_to_search, leaves)]
    return sorted({max(1, round(leaves * effort / 1000)) for effort in _EFFORTS})


def _measure(find: Find, held: HeldOutQueries, reorder: int, leaves: int) -> tuple[float, float]:
    """Recall, and seconds for all queries in batches of a hundred."""
    started = time.monotonic()
    found = [
        find(held.queries[start : start + BATCH], held.k + 1, reorder, leaves)
        for start in range(0, len(held.ids), BATCH)
    ]
    seconds = time.monotonic() - started
    return held.recall(np.concatenate(found)), max(seconds, 1e-9)
