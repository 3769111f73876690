"""Snapshots of an index folder: the photos that one search sees, even if the index changes during the search.

Every stored descriptor has a row number: 0 to N-1 in the segment, and N upwards, in order of addition, for rows added
since the segment was built. When a photo is replaced or deleted, its row remains, and the number of the first snapshot
without this row is recorded. Writers write only beyond the rows that existing snapshots use, so that searches and
writers never wait for each other (multi-version concurrency control).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_retrieval.ranking.nearest import nearest
from keras_retrieval.ranking.whole_ranking import sort_all

from ..index_contract.contract import Filter, Hits
from ..index_contract.photos_to_index import RowBlocks
from .segment import Segment, top_k
from .write_ahead_log import Change, LogPosition

EXACT_AMONG = 10_000  # photos; if at most this number satisfies a filter, all of these are scored exactly
FURTHER = 8  # factor on the candidates of a second approximate search; for over 1/8 of the rows, exact search is faster
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Snapshot:
    """The photos of an index folder at one point in time.

    Attributes:
        segment: the segment of the last build, with N rows.
        added: stored descriptors added since the build, (M, S) float32; some of these rows may have been removed again.
        added_names: names of the M added rows; later snapshots may append names to the same list.
        added_columns: values of the M added rows by column name; later snapshots may append values to the same lists.
        removed_at: for each row, the number of the first snapshot that does not contain it; at least N + M numbers.
        number: number of this snapshot.
        built: number of rows of the segment that are still present.
        size: number of all rows that are present, including added ones.
    """

    segment: Segment
    added: np.ndarray
    added_names: Sequence[str]
    added_columns: dict[str, list[str]]
    removed_at: np.ndarray
    number: int
    built: int
    size: int

    @property
    def unchanged(self) -> bool:
        """Whether the present rows are exactly those of the segment."""
        return self.built == self.size == len(self.segment)

    def search(self, queries: np.ndarray, k: int, exact: bool, where: Filter | None) -> list[Hits]:
        """Finds the nearest photos of each query; see `NeighbourIndex.search`.

        Args:
            queries: queries, (Q, S) float32, already checked.
            k: number of neighbours per query.
            exact: whether to compare each query with every photo.
            where: filter that restricts the search; None for all photos.
        """
        if not len(queries):
            return []
        matching = None if where is None else self._matching(where)
        k = min(k, self.size if matching is None else int(matching.sum()))
        if not k:
            return [Hits([], np.empty(0, np.float32)) for _ in queries]
        if exact or self.segment.searcher is None:
            return self._hits(*self._exact_search(queries, k, matching))
        return self._hits(*self._approximate_search(queries, k, matching))

    def present(self, ids: np.ndarray) -> np.ndarray:
        """Returns whether the rows with these numbers are present in the snapshot, bool in the shape of `ids`."""
        return self.removed_at[ids] > self.number

    def ids(self) -> np.ndarray:
        """Returns the row numbers of all present rows, (n,), ascending."""
        return np.flatnonzero(self._matching(None))

    def names(self, ids: np.ndarray) -> list[str]:
        """Returns the names of the photos with the row numbers `ids`, (n,)."""
        count = len(self.segment)
        return [self.segment.names[i] if i < count else self.added_names[i - count] for i in ids.tolist()]

    def rows(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the stored descriptors with the ascending row numbers `ids`, (n,), in blocks."""
        count = len(self.segment)
        cut = np.searchsorted(ids, count)
        whole = cut == count
        yield from self.segment.rows.blocks(None if whole else ids[:cut])
        if cut < len(ids):
            yield self.added[ids[cut:] - count]

    def columns(self, ids: np.ndarray) -> dict[str, list[str]]:
        """Returns the column values, by column name, of the photos with the ascending row numbers `ids`, (n,)."""
        count = len(self.segment)
        cut = np.searchsorted(ids, count)
        old, new = self.segment.columns.take(ids[:cut]), (ids[cut:] - count).tolist()
        return {column: old[column] + [texts[i] for i in new] for column, texts in self.added_columns.items()}

    def _matching(self, where: Filter | None) -> np.ndarray:
        """Returns whether each row is present and satisfies a filter, (N + M,) bool."""
        count, added = len(self.segment), len(self.added)
        matching = self.removed_at[: count + added] > self.number
        if where is None:
            return matching
        matching[:count] &= self.segment.columns.matches(where)
        for column, values in where.columns.items():
            wanted = set(values)
            matching[count:] &= np.array([text in wanted for text in self.added_columns[column][:added]], bool)
        if where.names is not None:
            wanted, row_of = set(where.names), self.segment.row_of
            named = np.zeros(len(matching), bool)
            named[[row_of[name] for name in wanted if name in row_of]] = True
            named[count:] = [name in wanted for name in self.added_names[:added]]
            matching &= named
        return matching

    def _exact_search(self, queries: np.ndarray, k: int, matching: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        ids = np.flatnonzero(self._matching(None) if matching is None else matching)
        rows = RowBlocks(lambda: self.rows(ids))
        found, scores = (sort_all if FURTHER * k > len(ids) else nearest)(queries, rows, k)
        return ids[found], scores

    def _approximate_search(
        self, queries: np.ndarray, k: int, matching: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Searches with the hashes, with exact search as a fallback.

        A query that finds fewer than k matching photos is repeated with more candidates. Exact search is used if even
        these are too few, or if it is not slower.
        """
        count = len(self.segment)
        built = self.built if matching is None else int(matching[:count].sum())
        ids, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        left = np.arange(len(queries))
        for times in (1, FURTHER):
            if built <= (0 if matching is None else EXACT_AMONG):
                break
            effort = times * count / built
            if FURTHER * self.segment.candidates_for(k, effort) > count:
                break
            ids[left], scores[left] = self._hashed_search(queries[left], k, effort, matching)
            left = left[~np.isfinite(scores[left, -1])]
            if not len(left):
                return ids, scores
        ids[left], scores[left] = self._exact_search(queries[left], k, matching)
        return ids, scores

    def _hashed_search(
        self, queries: np.ndarray, k: int, effort: float, matching: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Searches the segment with its hashes, and the added rows exactly."""
        allowed = self.present if matching is None else matching.__getitem__
        ids, scores = self.segment.find(queries, k, effort, allowed)
        if not len(self.added):
            return ids, scores
        new = np.arange(len(self.added)) + len(self.segment)
        new_scores = queries @ self.added.T
        new_scores[:, ~allowed(new)] = -np.inf
        return top_k(np.hstack([ids, np.broadcast_to(new, new_scores.shape)]), np.hstack([scores, new_scores]), k)

    def _hits(self, ids: np.ndarray, scores: np.ndarray) -> list[Hits]:
        return [Hits(self.names(row), score) for row, score in zip(ids, scores, strict=True)]


class MutableSegment:
    """Applies logged changes to a segment, and makes a new snapshot after each. One thread at a time may apply changes.

    Args:
        segment: the segment of the last build.

    Attributes:
        snapshot: the latest snapshot.
        position: position in the write-ahead log after the last change that was applied.
        changes: number of rows added and removed since the build.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment, self.position, self.changes = segment, segment.log.start, 0
        count = len(segment)
        self._added = np.empty((16, segment.rows.dimensions), np.float32)
        self._removed_at = np.full(count + len(self._added), _NEVER)
        self._names: list[str] = []
        self._columns: dict[str, list[str]] = {column: [] for column in segment.facts["columns"]}
        self._changed: dict[str, int | None] = {}
        none = self._added[:0]
        self.snapshot = Snapshot(segment, none, self._names, self._columns, self._removed_at, 0, count, count)

    def row_of(self, name: str) -> int | None:
        """Returns the row number of a photo; None if the latest snapshot does not contain the photo."""
        return self._changed[name] if name in self._changed else self.segment.row_of.get(name)

    def apply(self, change: Change, position: LogPosition) -> None:
        """Applies a change from the log and makes a snapshot with it, which all later searches use.

        Args:
            change: the change, which adds or deletes photos.
            position: position in the log after the change.
        """
        snapshot, number = self.snapshot, self.snapshot.number + 1
        removed = [row for row in map(self.row_of, change.names) if row is not None]
        self._removed_at[removed] = number
        count, added = len(self.segment), len(snapshot.added)
        if change.rows is None:
            self._changed |= dict.fromkeys(change.names)
        else:
            self._append(change, added)
            self._changed |= zip(change.names, range(count + added, count + added + len(change.names)), strict=True)
            added += len(change.names)
        built = snapshot.built - sum(row < count for row in removed)
        size = snapshot.size - len(removed) + added - len(snapshot.added)
        self.changes += len(removed) + added - len(snapshot.added)
        rows = self._added[:added]
        self.snapshot = Snapshot(self.segment, rows, self._names, self._columns, self._removed_at, number, built, size)
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
        """Enlarges the arrays of added rows. Earlier snapshots keep their arrays."""
        added = np.empty((room, self._added.shape[1]), np.float32)
        removed_at = np.full(len(self.segment) + room, _NEVER)
        added[: len(self._added)], removed_at[: len(self._removed_at)] = self._added, self._removed_at
        self._added, self._removed_at = added, removed_at
