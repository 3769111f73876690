"""Snapshots of an index folder: the photos that one search sees, even if the index changes during the search.

Every photo has a number: 0 to N-1 in the segment, and N upwards, in order of addition, for photos added since the
segment was built. When a photo is replaced or deleted, its rows remain, and the number of the first snapshot without
the photo is recorded. Writers write only beyond the rows that existing snapshots use, so that searches and writers
never wait for each other (multi-version concurrency control). Without crops each photo has one row, of its number.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_retrieval.ranking.grouped import nearest_groups
from keras_retrieval.ranking.nearest import nearest
from keras_retrieval.ranking.rows import first_rows
from keras_retrieval.ranking.whole_ranking import sort_all

from ..index_contract.column_types import TYPES, type_of
from ..index_contract.conditions import PHOTO_COLUMN, ColumnValues
from ..index_contract.contract import Filter, Hits
from ..index_contract.photo_crops import PhotoCrops
from ..index_contract.photos_to_index import RowBlocks
from .column_file import StoredColumns
from .segment import Segment, top_k
from .write_ahead_log import Change, LogPosition

EXACT_AMONG = 10_000  # photos; if at most this number satisfies a filter, all of these are scored exactly
FURTHER = 8  # factor on the candidates of a second approximate search; for over 1/8 of the rows, exact search is faster
FURTHER_CROPS = 3  # the same with crops, whose exact search reads several times the rows for the same photos
_COMPARED = 1024  # photos whose rows are read at a time to find the best
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Snapshot:
    """The photos of an index folder at one point in time.

    Attributes:
        segment: the segment of the last build, with N rows.
        added: stored descriptors added since the build, (M, S) float32, or with crops more rows than M; some of these
            photos may have been removed again.
        added_photos: M, the number of photos added since the build.
        added_names: names of the M added photos; later snapshots may append names to the same list.
        columns_of_built: column values of the N photos of the segment.
        added_columns: values of the M added photos by column name; later snapshots may append values to the same lists.
        removed_at: for each photo, the number of the first snapshot that does not contain it; at least N + M numbers.
        number: number of this snapshot.
        built: number of photos of the segment that are still present.
        size: number of all photos that are present, including added ones.
        facts: metadata of the index, with the columns that were added since the build.
        added_crops: the crops of the M added photos; None without crops.
    """

    segment: Segment
    added: np.ndarray
    added_photos: int
    added_names: Sequence[str]
    columns_of_built: StoredColumns
    added_columns: dict[str, list[str]]
    removed_at: np.ndarray
    number: int
    built: int
    size: int
    facts: Mapping[str, Any]
    added_crops: PhotoCrops | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the present photos are exactly those of the segment."""
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
            return [self._hits(np.empty(0, np.int64), np.empty(0, np.float32), query) for query in queries]
        if exact or self.segment.searcher is None:
            found = self._exact_search(queries, k, matching)
        else:
            found = self._approximate_search(queries, k, matching)
        if self.segment.crops is None:
            names, width = self.names(found[0].ravel()), found[0].shape[1]
            return [Hits(names[place * width : (place + 1) * width], row) for place, row in enumerate(found[1])]
        return [self._hits(*hits) for hits in zip(*found, queries, strict=True)]

    def present(self, ids: np.ndarray) -> np.ndarray:
        """Returns whether the photos with these numbers are in the snapshot, bool in the shape of `ids`."""
        return self.removed_at[ids] > self.number

    def ids(self) -> np.ndarray:
        """Returns the numbers of all photos that are present, (n,), ascending."""
        return np.flatnonzero(self._matching(None))

    def names(self, ids: np.ndarray) -> list[str]:
        """Returns the names of the photos with the numbers `ids`, (n,)."""
        names, count = self.segment.names, len(self.segment)
        if not self.added_photos:
            return [names[i] for i in ids.tolist()]
        return [names[i] if i < count else self.added_names[i - count] for i in ids.tolist()]

    def rows(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        """Yields all rows of the photos with the ascending numbers `ids`, (n,), in blocks."""
        old, new = self._split(ids)
        whole, crops = len(old) == len(self.segment), self.segment.crops
        if crops is not None:
            old = old if whole else crops.rows_of(old)
            new = self._added_rows(new)
        yield from self.segment.rows.blocks(None if whole else old)
        if len(new):
            yield self.added[new]

    def whole_rows(self, ids: np.ndarray) -> np.ndarray:
        """Returns the rows (n, S) of the whole photos with the numbers `ids`, (n,)."""
        count, crops = len(self.segment), self.segment.crops
        old, new = ids < count, ids[ids >= count] - count
        rows = np.empty((len(ids), self.segment.rows.dimensions), np.float32)
        rows[old] = self.segment.rows.take(ids[old] if crops is None else crops.starts[ids[old]])
        rows[~old] = self.added[new if self.added_crops is None else self.added_crops.starts[new]]
        return rows

    def crops(self, ids: np.ndarray) -> PhotoCrops | None:
        """Returns the crops of the photos with the ascending numbers `ids`, (n,); None for an index without crops."""
        crops, added = self.segment.crops, self.added_crops
        if crops is None or added is None:
            return None
        old, new = self._split(ids)
        boxes = [crops.boxes[crops.rows_of(old)], added.boxes[self._added_rows(new)]]
        return PhotoCrops(self._counts(ids), np.concatenate(boxes))

    def _added_rows(self, new: np.ndarray) -> np.ndarray:
        """The rows in `added` of added photos, which are numbered from 0."""
        assert self.added_crops is not None, "only rows of crops need to be found"
        return self.added_crops.rows_of(new)

    def _split(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Splits ascending numbers of photos into those of the segment and those of added photos, numbered from 0."""
        count = len(self.segment)
        cut = np.searchsorted(ids, count)
        return ids[:cut], ids[cut:] - count

    def columns(self, ids: np.ndarray) -> dict[str, list[str]]:
        """Returns the column values, by column name, of the photos with the ascending numbers `ids`, (n,)."""
        built, added = self._split(ids)
        old, new = self.columns_of_built.take(built), added.tolist()
        return {column: old[column] + [texts[i] for i in new] for column, texts in self.added_columns.items()}

    def _matching(self, where: Filter | None) -> np.ndarray:
        """Returns whether each photo is present and satisfies a filter, (N + M,) bool."""
        count, added = len(self.segment), self.added_photos
        matching = self.removed_at[: count + added] > self.number
        if where is None:
            return matching
        for condition in where.on_columns:
            if condition.column == PHOTO_COLUMN:
                matching &= self._named(condition.values) != condition.negated
                continue
            matching[:count] &= self.columns_of_built.matches(condition)
            texts = self.added_columns[condition.column][:added]
            matching[count:] &= condition.matches(ColumnValues(type_of(self.facts, condition.column), texts))
        return matching if where.names is None else matching & self._named(where.names)

    def _named(self, names: Collection[str]) -> np.ndarray:
        """Returns which photos have one of some names, (N + M,) bool."""
        wanted, row_of, count = set(names), self.segment.row_of, len(self.segment)
        named = np.zeros(count + self.added_photos, bool)
        named[[row_of[name] for name in wanted if name in row_of]] = True
        named[count:] = [name in wanted for name in self.added_names[: self.added_photos]]
        return named

    def _exact_search(self, queries: np.ndarray, k: int, matching: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        ids = np.flatnonzero(self._matching(None) if matching is None else matching)
        rows = RowBlocks(lambda: self.rows(ids))
        if self.segment.crops is not None:
            found, scores = nearest_groups(queries, rows, first_rows(self._counts(ids)), k)
            return ids[found], scores
        found, scores = (sort_all if FURTHER * k > len(ids) else nearest)(queries, rows, k)
        return ids[found], scores

    def _approximate_search(
        self, queries: np.ndarray, k: int, matching: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Searches with the hashes, with exact search as a fallback.

        A query that finds fewer than k matching photos is repeated with more candidates. Exact search is used if even
        these are too few, or if it is not slower.
        """
        count, rows = len(self.segment), len(self.segment.rows)
        built = self.built if matching is None else int(matching[:count].sum())
        ids, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        left = np.arange(len(queries))
        crops = self.segment.crops is not None
        for times in (1, 2, 4, FURTHER) if crops else (1, FURTHER):  # crops of the same photos crowd others out
            if built * rows <= (0 if matching is None else EXACT_AMONG * count):
                break
            effort = times * count / built
            if (FURTHER_CROPS if crops else FURTHER) * self.segment.candidates_for(k, effort) > rows:
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
        if not self.added_photos:
            return ids, scores
        new = np.arange(self.added_photos) + len(self.segment)
        new_scores = queries @ self.added.T
        if self.added_crops is not None:
            new_scores = np.maximum.reduceat(new_scores, self.added_crops.starts, axis=1)
        new_scores[:, ~allowed(new)] = -np.inf
        return top_k(np.hstack([ids, np.broadcast_to(new, new_scores.shape)]), np.hstack([scores, new_scores]), k)

    def _counts(self, ids: np.ndarray) -> np.ndarray:
        """The number of rows of each of the photos with the ascending numbers `ids`, of an index with crops."""
        crops, added = self.segment.crops, self.added_crops
        assert crops is not None, "the index has crops"
        assert added is not None, "the index has crops"
        old, new = self._split(ids)
        return np.concatenate([crops.counts[old], added.counts[new]])

    def _hits(self, ids: np.ndarray, scores: np.ndarray, query: np.ndarray) -> Hits:
        if self.segment.crops is None:
            return Hits(self.names(ids), scores)
        scores, boxes, sizes = self._best_crops(ids, query)
        order = np.argsort(-scores, kind="stable")
        return Hits(self.names(ids[order]), scores[order], boxes[order], sizes[order])

    def _best_crops(self, ids: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compares all rows of photos with a query: an approximate search may have seen only some of them.

        Args:
            ids: numbers of n photos.
            query: the query, (S,).

        Returns:
            The score of the best row of each photo, (n,); its box, (n, 4); and the size of the photo, (n, 2).
        """
        stored = self.segment.crops
        if stored is not None and not self.added_photos and 0 < len(ids) <= _COMPARED:
            counts, starts = stored.counts[ids], stored.starts[ids]
            numbers, firsts = stored.rows_of(ids), first_rows(counts)
            products = self.segment.rows.take(numbers) @ query
            best = firsts + _best_places(products, counts, firsts)
            return products[best], stored.boxes[numbers[best]], stored.boxes[starts, 2:]
        scores, boxes = np.empty(len(ids), np.float32), np.empty((len(ids), 4), np.float32)
        sizes = np.empty((len(ids), 2), np.float32)
        order = np.argsort(ids, kind="stable")
        for start in range(0, len(ids), _COMPARED):
            part = order[start : start + _COMPARED]
            crops = self.crops(ids[part])
            assert crops is not None, "the index has crops"
            products = np.concatenate([rows @ query for rows in self.rows(ids[part])])
            best = crops.starts + _best_places(products, crops.counts, crops.starts)
            scores[part], boxes[part], sizes[part] = products[best], crops.boxes[best], crops.boxes[crops.starts, 2:]
        return scores, boxes, sizes


def _best_places(products: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The place, from 0, of the largest product of each photo, (n,), among its `counts` rows from `starts` on."""
    most = int(counts.max(initial=0))
    if len(products) == most * len(counts):
        return products.reshape(len(counts), -1).argmax(axis=1)
    # A rectangle of the rows of each photo, whose last row is repeated where it has fewer.
    places = np.minimum(np.arange(most)[None], counts[:, None] - 1) + starts[:, None]
    return np.argmax(products[places], axis=1)


class MutableSegment:
    """Applies logged changes to a segment, and makes a new snapshot after each. One thread at a time may apply changes.

    Args:
        segment: the segment of the last build.

    Attributes:
        snapshot: the latest snapshot.
        position: position in the write-ahead log after the last change that was applied.
        changes: number of rows added and removed since the build, and of 20 photos of which columns were changed.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment, self.position, self.changes = segment, segment.log.start, 0
        count = len(segment)
        self._added = np.empty((16, segment.rows.dimensions), np.float32)
        self._removed_at = np.full(count + len(self._added), _NEVER)
        self._counts = np.zeros(0, np.int64)
        self._boxes = np.empty((len(self._added) if segment.crops is not None else 0, 4), np.float32)
        self._names: list[str] = []
        self._columns: dict[str, list[str]] = {column: [] for column in segment.facts["columns"]}
        self._changed: dict[str, int | None] = {}
        none = self._added[:0]
        self.snapshot = Snapshot(
            segment,
            none,
            0,
            self._names,
            segment.columns,
            self._columns,
            self._removed_at,
            0,
            count,
            count,
            segment.facts,
            self._added_crops(0),
        )

    def row_of(self, name: str) -> int | None:
        """Returns the number of a photo; None if the latest snapshot does not contain the photo."""
        return self._changed[name] if name in self._changed else self.segment.row_of.get(name)

    def apply(self, change: Change, position: LogPosition) -> None:
        """Applies a change from the log and makes a snapshot with it, which all later searches use.

        Args:
            change: the change, which adds or deletes photos.
            position: position in the log after the change.
        """
        if change.types:
            self._add_columns(change.types)
        if change.on_columns:
            self._change_columns(change)
            self.position = position
            return
        snapshot, number = self.snapshot, self.snapshot.number + 1
        removed = [photo for photo in map(self.row_of, change.names) if photo is not None]
        count, added, rows = len(self.segment), snapshot.added_photos, len(snapshot.added)
        self.changes += self._rows_of(removed)
        self._removed_at[removed] = number
        if change.rows is None:
            self._changed |= dict.fromkeys(change.names)
        else:
            self._append(change, added, rows)
            self._changed |= zip(change.names, range(count + added, count + added + len(change.names)), strict=True)
            added, rows = added + len(change.names), rows + len(change.rows)
            self.changes += len(change.rows)
        built = snapshot.built - sum(photo < count for photo in removed)
        self.snapshot = Snapshot(
            self.segment,
            self._added[:rows],
            added,
            self._names,
            snapshot.columns_of_built,
            self._columns,
            self._removed_at,
            number,
            built,
            snapshot.size - len(removed) + added - snapshot.added_photos,
            snapshot.facts,
            self._added_crops(rows),
        )
        self.position = position

    def _add_columns(self, types: Mapping[str, str]) -> None:
        """Adds empty columns, which snapshots from the next one on have; earlier ones keep their columns."""
        snapshot, facts = self.snapshot, self.snapshot.facts
        types = {column: kind for column, kind in types.items() if column not in facts["columns"]}
        facts = {
            **facts, "columns": [*facts["columns"], *types], TYPES: {**facts.get(TYPES, {}), **types}
        }  # fmt: skip
        self._columns = self._columns | {column: [""] * len(self._names) for column in types}
        columns = snapshot.columns_of_built.with_columns(types, len(self.segment))
        self.snapshot = replace(snapshot, columns_of_built=columns, added_columns=self._columns, facts=facts)

    def _change_columns(self, change: Change) -> None:
        """Changes column values of photos; earlier snapshots keep theirs."""
        count, photos = len(self.segment), [self.row_of(name) for name in change.names]
        built = [place for place, photo in enumerate(photos) if photo is not None and photo < count]
        ids = np.array([photos[place] for place in built], np.int64)
        values = {column: [texts[place] for place in built] for column, texts in change.columns.items()}
        columns = self.snapshot.columns_of_built.replaced(ids, values)
        self._columns = {column: list(texts) for column, texts in self._columns.items()}
        for column, texts in change.columns.items():
            for photo, text in zip(photos, texts, strict=True):
                if photo is not None and photo >= count:
                    self._columns[column][photo - count] = text
        self.changes += change.cost
        number = self.snapshot.number + 1
        self.snapshot = replace(self.snapshot, columns_of_built=columns, added_columns=self._columns, number=number)

    def _rows_of(self, photos: list[int]) -> int:
        """The number of rows of photos."""
        crops, count = self.segment.crops, len(self.segment)
        if crops is None:
            return len(photos)
        return sum(int(crops.counts[photo] if photo < count else self._counts[photo - count]) for photo in photos)

    def _added_crops(self, rows: int) -> PhotoCrops | None:
        return None if self.segment.crops is None else PhotoCrops(self._counts, self._boxes[:rows])

    def _append(self, change: Change, photos: int, start: int) -> None:
        """Appends the photos of a change after `photos` added photos with `start` rows."""
        assert change.rows is not None, "a deletion appends nothing"
        end = start + len(change.rows)
        if end > len(self._added):
            self._grow(max(end, 2 * len(self._added)))
        self._added[start:end] = change.rows
        if change.crops is not None:
            self._boxes[start:end] = change.crops.boxes
            self._counts = np.concatenate([self._counts[:photos], change.crops.counts])
        self._names += change.names
        for column, texts in self._columns.items():
            texts += change.columns.get(column, [""] * len(change.names))

    def _grow(self, room: int) -> None:
        """Enlarges the arrays of added rows. Earlier snapshots keep their arrays."""
        added = np.empty((room, self._added.shape[1]), np.float32)
        removed_at = np.full(len(self.segment) + room, _NEVER)
        added[: len(self._added)], removed_at[: len(self._removed_at)] = self._added, self._removed_at
        if self.segment.crops is not None:
            boxes = np.empty((room, 4), np.float32)
            boxes[: len(self._boxes)] = self._boxes
            self._boxes = boxes
        self._added, self._removed_at = added, removed_at
