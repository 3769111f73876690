"""A segment and the changes since, as searches see them: snapshots that do not change while new ones come.

Every row has a number: 0..N-1 in the segment, N.. for those added since, in order. A row that was replaced or
deleted stays where it is and is given the snapshot of its end. A search works on a `Snapshot`, which sees the rows that
were there then; writers only ever write behind or beyond it, so that neither waits for the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_retrieval.ranking.nearest import nearest
from keras_retrieval.ranking.whole_ranking import sort_all

from ..index_contract.contract import Filter, Hits
from ..index_contract.photos import Rows
from .segment import Segment, top_k
from .write_ahead_log import Change, LogPosition

EXACT_AMONG = 10_000  # so few photos that pass a filter are scored one by one
DEEP = 8  # from an eighth of the rows on, looking at all is faster than looking for some
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Snapshot:
    """An index at one snapshot.

    Attributes:
        segment: the N rows of the build.
        added: (M, S) rows added since; some of them may have ended.
        added_names: of those rows, and perhaps of later ones.
        added_columns: column -> a text for each of them.
        ends: (N + M or more,) the snapshot at which each row ended.
        now: the number of this snapshot.
        built: how many rows of the build are there.
        size: how many rows are there in all.
    """

    segment: Segment
    added: np.ndarray
    added_names: Sequence[str]
    added_columns: dict[str, list[str]]
    ends: np.ndarray
    now: int
    built: int
    size: int

    @property
    def unchanged(self) -> bool:
        """Whether the rows are just those of the build."""
        return self.built == self.size == len(self.segment)

    def search(self, queries: np.ndarray, k: int, exact: bool, where: Filter | None) -> list[Hits]:
        """See `NeighbourIndex.search`; queries (Q, S), checked."""
        if not len(queries):
            return []
        among = None if where is None else self._passing(where)
        matching = self.size if among is None else int(among.sum())
        k = min(k, matching)
        if not k:
            return [Hits([], np.empty(0, np.float32)) for _ in queries]
        if exact or self.segment.searcher is None:
            return self._hits(*self._exactly(queries, k, among))
        return self._hits(*self._probably(queries, k, among))

    def alive(self, ids: np.ndarray) -> np.ndarray:
        """Which of these row numbers are there, in the shape of ids."""
        return self.ends[ids] > self.now

    def ids(self) -> np.ndarray:
        """The numbers of all rows that are there."""
        return np.flatnonzero(self._passing(None))

    def names(self, ids: np.ndarray) -> list[str]:
        """The names of rows by number."""
        count = len(self.segment)
        return [self.segment.names[i] if i < count else self.added_names[i - count] for i in ids.tolist()]

    def rows(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        """Stored rows by number, which rise, in pieces."""
        count = len(self.segment)
        cut = np.searchsorted(ids, count)
        whole = cut == count
        yield from self.segment.rows.blocks(None if whole else ids[:cut])
        if cut < len(ids):
            yield self.added[ids[cut:] - count]

    def columns(self, ids: np.ndarray) -> dict[str, list[str]]:
        """The texts of rows by number, which rise."""
        count = len(self.segment)
        cut = np.searchsorted(ids, count)
        old, new = self.segment.table.take(ids[:cut]), (ids[cut:] - count).tolist()
        return {column: old[column] + [texts[i] for i in new] for column, texts in self.added_columns.items()}

    def _passing(self, where: Filter | None) -> np.ndarray:
        """Which rows are there and pass, (N + M,) bool."""
        count, added = len(self.segment), len(self.added)
        passing = self.ends[: count + added] > self.now
        if where is None:
            return passing
        passing[:count] &= self.segment.table.matches(where)
        for column, values in where.columns.items():
            wanted = set(values)
            passing[count:] &= np.array([text in wanted for text in self.added_columns[column][:added]], bool)
        if where.names is not None:
            wanted, numbers = set(where.names), self.segment.numbers
            named = np.zeros(len(passing), bool)
            named[[numbers[name] for name in wanted if name in numbers]] = True
            named[count:] = [name in wanted for name in self.added_names[:added]]
            passing &= named
        return passing

    def _exactly(self, queries: np.ndarray, k: int, among: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        ids = np.flatnonzero(self._passing(None) if among is None else among)
        rows = Rows(lambda: self.rows(ids))
        found, scores = (sort_all if DEEP * k > len(ids) else nearest)(queries, rows, k)
        return ids[found], scores

    def _probably(self, queries: np.ndarray, k: int, among: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """By the hashes, looking further where too few pass, and exactly where that would be as far as all rows."""
        count = len(self.segment)
        built = self.built if among is None else int(among[:count].sum())
        ids, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        left = np.arange(len(queries))
        for times in (1, DEEP):
            if built <= (0 if among is None else EXACT_AMONG):
                break
            effort = times * count / built
            if DEEP * self.segment.reorder(k, effort) > count:
                break
            ids[left], scores[left] = self._hashed(queries[left], k, effort, among)
            left = left[~np.isfinite(scores[left, -1])]
            if not len(left):
                return ids, scores
        ids[left], scores[left] = self._exactly(queries[left], k, among)
        return ids, scores

    def _hashed(
        self, queries: np.ndarray, k: int, effort: float, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        passes = self.alive if among is None else among.__getitem__
        ids, scores = self.segment.find(queries, k, effort, passes)
        if not len(self.added):
            return ids, scores
        new = np.arange(len(self.added)) + len(self.segment)
        new_scores = queries @ self.added.T
        new_scores[:, ~passes(new)] = -np.inf
        return top_k(np.hstack([ids, np.broadcast_to(new, new_scores.shape)]), np.hstack([scores, new_scores]), k)

    def _hits(self, ids: np.ndarray, scores: np.ndarray) -> list[Hits]:
        return [Hits(self.names(row), score) for row, score in zip(ids, scores, strict=True)]


class MutableSegment:
    """A segment to which changes are applied, by one thread at a time.

    Args:
        segment: what was built.

    Attributes:
        snapshot: the latest.
        position: in the log, behind the last change applied.
        changes: rows added and ended since the build.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment, self.position, self.changes = segment, segment.log.start, 0
        count = len(segment)
        self._added = np.empty((16, segment.rows.dimensions), np.float32)
        self._ends = np.full(count + len(self._added), _NEVER)
        self._names: list[str] = []
        self._columns: dict[str, list[str]] = {column: [] for column in segment.facts["columns"]}
        self._changed: dict[str, int | None] = {}
        self.snapshot = Snapshot(segment, self._added[:0], self._names, self._columns, self._ends, 0, count, count)

    def number(self, name: str) -> int | None:
        """The row of a photo that is there."""
        return self._changed[name] if name in self._changed else self.segment.numbers.get(name)

    def apply(self, change: Change, position: LogPosition) -> None:
        """Shows a change that the log holds to every search that begins from now on."""
        snapshot, now = self.snapshot, self.snapshot.now + 1
        ended = [number for number in map(self.number, change.names) if number is not None]
        self._ends[ended] = now
        count, added = len(self.segment), len(snapshot.added)
        if change.rows is None:
            self._changed |= dict.fromkeys(change.names)
        else:
            self._append(change, added)
            self._changed |= zip(change.names, range(count + added, count + added + len(change.names)), strict=True)
            added += len(change.names)
        built = snapshot.built - sum(number < count for number in ended)
        size = snapshot.size - len(ended) + added - len(snapshot.added)
        self.changes += len(ended) + added - len(snapshot.added)
        rows = self._added[:added]
        self.snapshot = Snapshot(self.segment, rows, self._names, self._columns, self._ends, now, built, size)
        self.position = position

    def _append(self, change: Change, start: int) -> None:
        assert change.rows is not None, "a deletion appends nothing"
        end = start + len(change.names)
        if end > len(self._added):
            self._grow(max(end, 2 * len(self._added)))
        self._added[start:end] = change.rows
        self._names += change.names
        for column, texts in self._columns.items():
            texts += change.columns.get(column, [""] * len(change.names))

    def _grow(self, room: int) -> None:
        """Makes room. Moments keep the arrays they began with."""
        added, ends = np.empty((room, self._added.shape[1]), np.float32), np.full(len(self.segment) + room, _NEVER)
        added[: len(self._added)], ends[: len(self._ends)] = self._added, self._ends
        self._added, self._ends = added, ends
