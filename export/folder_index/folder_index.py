"""A `NeighbourIndex` in a folder, which any number of threads and processes can search while it changes.

An index folder contains one segment, built from the photos at one point in time, and a write-ahead log of the photos
added and deleted since then. Searches take no lock: each search uses the latest snapshot (`folder_index.snapshot`), and
scores the photos added since the build in addition to the candidates that the segment's hashes select. There are at
most `MAX_CHANGES` such rows, because a writer that would exceed this number waits until a new segment has been built.
Another process builds the segment, and another thread verifies and loads it. Python's global interpreter lock is held
only while ScaNN reads its hashes: 0.125 s for 120,000 photos of 512 dimensions, in proportion to the size.

A change is on disk, in the log, before `add` or `delete` returns. In every process that has the folder open, the next
search includes the change. A segment that another process built is used as soon as it has been loaded.
"""

import logging
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.child_process import clean_environment, failure, python_module
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.progress import waiting
from keras_retrieval.pipelines.files.space import naming_full_disk, require_space

from keras_retrieval.errors import ArgumentError

from ..index_contract.checks import (
    NO_CROPS,
    check_columns,
    check_crops,
    check_finite,
    check_k,
    check_lengths,
    check_names,
    check_shape,
    new_columns,
    stored_values,
)
from ..index_contract.contract import Filter, Hits, IndexState
from ..index_contract.errors import IndexReplacedError
from ..index_contract.index_settings import CROPS_EXACT_BELOW, IndexSettings
from ..index_contract.photo_crops import PhotoCrops
from ..index_contract.photos_to_index import PhotosToIndex, RowBlocks
from .builder import build_segment, create_log, segment_bytes
from .following import FIRST_PAUSE, Following, Loader
from .layout import (
    clean,
    grace_left,
    locked,
    manifest_stamp,
    new_segment,
    publish,
    read_index,
    remove_outdated,
)
from .segment import Segment
from .snapshot import MutableSegment, Snapshot
from .write_ahead_log import Change, FileStamp, LogPosition

MAX_CHANGES = 10_000  # rows added and removed since the build, until writers wait for a new build; it starts at half
RETRY_AFTER = 500  # further changes after which a rebuild that failed is tried again
BUILD_TIMEOUT = 3600.0  # seconds to wait while another process builds a segment

_LOG_MARGIN = 3 * 4096  # bytes on the disk: the head of the log, and the ends of files
_WARM_UP_QUERIES = 8

log = logging.getLogger("keras_retrieval")


class FolderIndex:
    """An open index folder; implements `NeighbourIndex`.

    Args:
        folder: folder of an index written by `keras-retrieval index`. It is not written to before the first change, so
            that it may be mounted read-only.
        following: how the index follows changes by other processes.

    Attributes:
        folder: the folder.

    Raises:
        FolderError: the folder does not exist, is not an index, has an unsupported layout, or one of its files is
            missing or was altered.
        MissingExtraError: the index is searched approximately, and ScaNN is not installed.
    """

    def __init__(self, folder: Path, following: Following | None = None) -> None:
        self.folder, self._following = folder, following or Following()
        self._changing = threading.Lock()  # guards _mutable and _seen; searches do not wait for it
        self._compaction: threading.Thread | None = None
        self._loader = Loader(self._load_newest, self._report)
        self._loads = self._failures = 0
        self._loaded_at = 0.0
        self._problem = ""
        self._failed_at = 0  # changes from which on a rebuild that failed is tried again
        self._mutable: MutableSegment
        self._published: FileStamp
        self._seen: tuple[FileStamp, FileStamp]
        self._load()

    @property
    def facts(self) -> Mapping[str, Any]:
        """Metadata of the index; see `NeighbourIndex.facts`."""
        with suppress(OSError, FolderError):  # a search will raise it
            return self._snapshot().facts
        return self._mutable.snapshot.facts

    @property
    def names(self) -> list[str]:
        """The names of all photos, in the order of the rows that `vectors()` returns."""
        snapshot = self._snapshot()
        return snapshot.segment.names if snapshot.unchanged else snapshot.names(snapshot.ids())

    @property
    def version(self) -> str:
        """A text that differs after every change; see `NeighbourIndex.version`."""
        snapshot = self._snapshot()
        return f"{snapshot.segment.facts['segment']}-{'-'.join(map(str, self._published))}-{snapshot.number}"

    @property
    def state(self) -> IndexState:
        """The build that is searched, and whether it is the newest; see `NeighbourIndex.state`."""
        snapshot = self._snapshot()
        segment = str(snapshot.segment.facts["segment"])
        return IndexState(segment, snapshot.size, self._loaded_at, self._loads, self._failures, self._problem)

    def __len__(self) -> int:
        return self._snapshot().size

    @property
    def row_count(self) -> int:
        """The number of stored descriptors; see `NeighbourIndex.row_count`."""
        snapshot = self._snapshot()
        crops = snapshot.crops(snapshot.ids())
        return snapshot.size if crops is None else len(crops.boxes)

    def search(
        self, queries: np.ndarray, k: int = 10, *, exact: bool = False, where: Filter | None = None
    ) -> list[Hits]:
        """Finds the photos with the largest inner products with each query; see `NeighbourIndex.search`."""
        check_k(k)
        snapshot = self._snapshot()
        if where is not None:
            where.check(snapshot.facts)
        return snapshot.search(_to_stored(queries, "queries", snapshot.segment), k, exact, where)

    def add(
        self,
        names: Sequence[str],
        rows: np.ndarray,
        columns: Mapping[str, Sequence[Any]] | None = None,
        *,
        crops: PhotoCrops | None = None,
    ) -> None:
        """Adds or replaces photos; see `NeighbourIndex.add`.

        More than `MAX_CHANGES` rows are written in several parts, so that after an error the first parts may have
        been added.

        Raises:
            ArgumentError: as for `NeighbourIndex.add`.
            IndexBusyError: another process is writing to the index or rebuilding it.
            IndexReplacedError: another process has replaced the folder by an index with descriptors of another
                dimension, which is not changed.
            OSError: the disk failed.
        """
        names, columns = list(names), stored_values(columns or {}, self.facts)
        check_names(names)
        rows = _to_stored(rows, "rows", self._mutable.segment)
        check_crops(crops, self.facts)
        check_lengths(names, rows[: len(names)] if crops is not None else rows, columns)
        if crops is not None:
            crops.check(names, rows)
        most = MAX_CHANGES if crops is None or not len(names) else max(1, MAX_CHANGES // int(crops.counts.max()))
        for start in range(0, len(names), most):
            part = slice(start, start + most)
            some = None if crops is None else crops.part(start, start + most)
            first = 0 if crops is None else int(crops.counts[:start].sum())
            of_part = rows[part] if some is None else rows[first : first + len(some.boxes)]
            self._write(Change(names[part], of_part, {key: columns[key][part] for key in columns}, some))

    def add_columns(self, types: Mapping[str, str]) -> None:
        """Adds columns, which are empty for all photos; see `NeighbourIndex.add_columns`.

        Raises:
            ArgumentError: as for `NeighbourIndex.add_columns`.
            IndexBusyError: another process is writing to the index.
            DiskSpaceError: the disk is full; no column was added.
        """
        with self._changing, locked(self.folder, "writing"):
            self._catch_up()
            if new := new_columns(types, self._mutable.snapshot.facts):
                self._append(Change([], None, {column: [] for column in new}, types=new))

    def change_columns(self, names: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> int:
        """Changes column values of photos; returns how many are in the index. See `NeighbourIndex.change_columns`."""
        names, texts = list(names), stored_values(columns, self.facts)
        check_names(names)
        for column, values in texts.items():
            if len(values) != len(names):
                raise ArgumentError(f"got {len(names)} names and {len(values)} values of '{column}'")
        changed = 0
        for start in range(0, len(names) if texts else 0, MAX_CHANGES):
            part = slice(start, start + MAX_CHANGES)
            changed += self._write(Change(names[part], None, {column: texts[column][part] for column in texts}))
        return changed

    def delete(self, names: Sequence[str]) -> int:
        """Deletes photos by name, ignoring unknown names; returns the number deleted. See `NeighbourIndex.delete`."""
        names = list(dict.fromkeys(names))
        with self._changing, locked(self.folder, "writing"):
            self._catch_up()
            known = [name for name in names if self._mutable.row_of(name) is not None]
            if known:
                self._append(Change(known, None, {}))
        self._compact_if_due()
        return len(known)

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Returns the stored descriptors of some or all photos, (n, S) float32; see `NeighbourIndex.vectors`."""
        self._snapshot()
        mutable = self._mutable
        segment, snapshot = mutable.segment, mutable.snapshot
        if names is not None:
            return snapshot.whole_rows(_row_numbers(mutable, names))
        if segment.crops is not None:
            return snapshot.whole_rows(snapshot.ids())
        if snapshot.unchanged:
            return segment.rows.take(slice(None))
        empty = np.empty((0, segment.rows.dimensions), np.float32)
        return np.concatenate([empty, *snapshot.rows(snapshot.ids())])

    def crops(self, names: Sequence[str]) -> tuple[np.ndarray, PhotoCrops]:
        """Returns all stored descriptors of photos and their crops; see `NeighbourIndex.crops`."""
        self._snapshot()
        mutable = self._mutable
        if mutable.segment.crops is None:
            raise ArgumentError(NO_CROPS)
        numbers = _row_numbers(mutable, names)
        rows = [np.empty((0, mutable.segment.rows.dimensions), np.float32)]
        found = [mutable.snapshot.crops(number) for number in numbers[:, None]]
        for number in numbers[:, None]:
            rows += mutable.snapshot.rows(number)
        crops = [one for one in found if one is not None]
        boxes = np.concatenate([np.empty((0, 4), np.float32), *(one.boxes for one in crops)])
        counts = np.array([len(one.boxes) for one in crops], np.int64)
        return np.concatenate(rows), PhotoCrops(counts, boxes)

    def to_stored(self, rows: np.ndarray) -> np.ndarray:
        """Converts descriptors (n, D) to stored descriptors (n, S); see `NeighbourIndex.to_stored`."""
        return _to_stored(rows, "rows", self._mutable.segment)

    def columns(self, names: Sequence[str] | None = None) -> dict[str, list[str]]:
        """Returns the column values of some or all photos; see `NeighbourIndex.columns`."""
        self._snapshot()
        mutable = self._mutable
        if names is None:
            return mutable.snapshot.columns(mutable.snapshot.ids())
        return self._values(names)

    def compact(self, beyond: int = 0, grace: float | None = None) -> None:
        """Builds a new segment from the current photos with the original build settings, and tunes its search again.

        Searches and writes continue during the build.

        Args:
            beyond: do nothing if at most this number of rows has been added or removed since the last build.
            grace: minutes for which the files of the old segment stay; None for the build setting.

        Raises:
            DiskSpaceError: the disk is full. The index continues to use the old segment, and nothing else is left.
            OSError: the disk failed, or another process has been building a segment for an hour (`IndexBusyError`). The
                index continues to use the old segment.
        """
        with ExitStack() as stack:
            with waiting(f"{self.folder}: waiting for another process, which rebuilds the index"):
                stack.enter_context(locked(self.folder, "building", wait=BUILD_TIMEOUT))
            with self._changing:
                self._catch_up()
                snapshot, position = self._mutable.snapshot, self._mutable.position
                if self._mutable.changes <= beyond:
                    return
            self._rebuild(snapshot, position, grace)

    def _rebuild(self, snapshot: Snapshot, position: LogPosition, grace: float | None) -> None:
        """Builds a new segment from a snapshot, and publishes it with the changes after `position`."""
        segment, photos = snapshot.segment, _photos_of(snapshot)
        settings = IndexSettings(**segment.configuration["settings"])
        minutes = settings.grace if grace is None else grace
        size, started = segment_bytes(photos, settings), time.monotonic()
        require_space(self.folder, size)
        what = f"{self.folder}: rebuilding the index from {snapshot.size:,} photos"
        log.info(f"{what}; searches go on")
        with (
            waiting(what),
            naming_full_disk(self.folder, size),
            new_segment(self.folder, segment.facts["segment"]) as place,
        ):
            facts = {**snapshot.facts, **build_segment(place, photos, settings)}
            with self._changing:
                with locked(self.folder, "writing"):
                    create_log(place, facts, [change for change, _ in segment.log.read(position)])
                    publish(self.folder, place, facts, minutes)
                self._load()
            remove_outdated(self.folder, place.name)
        stays = f"; the files of the old one stay for {minutes:g} minutes" if minutes else ""
        log.info(f"{self.folder}: rebuilt in {time.monotonic() - started:.1f} s{stays}")

    def require_space(self, rows: int, others: int) -> None:
        """Checks before a change of many photos that the disk has space for all of it.

        Args:
            rows: number of descriptors to add.
            others: number of bytes of the names, columns and boxes to add or delete.

        Raises:
            DiskSpaceError: the disk has too little space.
        """
        segment = self._mutable.segment
        size = rows * 4 * segment.rows.dimensions + others + _LOG_MARGIN
        if self._mutable.changes + rows > MAX_CHANGES:  # the writer will wait for a new segment
            size += segment.file_bytes + rows * 4 * segment.rows.dimensions
        require_space(self.folder, size)

    def close(self) -> None:
        """Waits for the threads that build or load a segment. Changes are on disk even without this call."""
        if self._compaction and self._compaction.is_alive():
            log.info(f"{self.folder}: waiting for the rebuild of the index; all changes are kept already")
        with waiting(f"{self.folder}: waiting for the rebuild of the index"):
            if self._compaction:
                self._compaction.join()
            self._loader.close()

    def _snapshot(self) -> Snapshot:
        """Returns the latest snapshot; reads changes by other processes first, unless another thread reads them."""
        if self._stamps() != self._seen and self._changing.acquire(blocking=False):
            try:
                if manifest_stamp(self.folder) == self._published:
                    self._read_changes()
                elif not self._loader.running:
                    with suppress(Exception):  # changes that were made before the new segment, which has them
                        self._apply_log()
                    self._loader.start(self._following.wait(self._grace()))
            finally:
                self._changing.release()
            if self._loader.running and not self._mutable.segment.folder.exists():
                self._loader.hurry()  # the mapped files are gone, on a network file system for this process as well
        return self._mutable.snapshot

    def _grace(self) -> float:
        """The seconds for which the files of the segment in use stay, although it was replaced."""
        return grace_left(self.folder, self._mutable.segment.folder.name)

    def _read_changes(self) -> None:
        """Applies the log's new changes, in a search. The caller holds the lock `_changing`."""
        if not self._following.steadfast:
            self._catch_up()
        elif not (self._problem and self._loader.running):
            try:
                self._seen = self._apply_log()
            except Exception as error:
                self._report(error)
                self._loader.start()

    def _stamps(self) -> tuple[FileStamp, FileStamp]:
        return manifest_stamp(self.folder), self._mutable.segment.log.stamp()

    def _catch_up(self) -> None:
        """Applies the log's new changes, or loads a new segment. The caller holds the lock `_changing`."""
        try:
            if manifest_stamp(self.folder) == self._published:
                self._seen = self._apply_log()
                return
        except FolderError:
            # The log may lack a change that was read, but which its writer could not acknowledge. A damaged log raises
            # the error again.
            log.debug("%s is read again", self.folder)
        self._load()

    def _apply_log(self) -> tuple[FileStamp, FileStamp]:
        """Applies the log's new changes; returns the stamps that the folder had before."""
        seen = self._stamps()
        for change, position in self._mutable.segment.log.read(self._mutable.position):
            self._mutable.apply(change, position)
        return seen

    def _load(self) -> None:
        """Verifies and opens the current segment. The caller holds the lock `_changing`, except in the constructor."""
        while True:
            published = manifest_stamp(self.folder)
            try:
                facts = read_index(self.folder)
                mutable = MutableSegment(Segment(self.folder / facts["segment"], facts))
                seen = published, mutable.segment.log.stamp()
                for change, position in mutable.segment.log.read(mutable.position):
                    mutable.apply(change, position)
                break
            except (OSError, FolderError):
                if manifest_stamp(self.folder) == published:
                    raise
        if self._following.steadfast:
            _warm_up(mutable)
        self._mutable, self._published, self._seen = mutable, published, seen
        self._loads, self._loaded_at = self._loads + 1, time.time()

    def _load_newest(self) -> None:
        """Applies what is new, in the thread of the loader."""
        with self._changing:
            self._catch_up()
        if self._problem:
            log.info("%s can be read again", self.folder)
        self._problem = ""

    def _report(self, error: Exception) -> None:
        """Reports that a build or the log of changes could not be read."""
        self._failures += 1
        if str(error) != self._problem:
            self._problem = str(error)
            log.warning("the older segment of %s stays in use: %s", self.folder, error)

    def _write(self, change: Change) -> int:
        """Makes a change durable; returns its number of photos, of a change of columns without missing ones."""
        size = change.cost
        if self._mutable.changes + size > MAX_CHANGES:
            log.info(
                f"{self.folder}: {self._mutable.changes:,} changes since the last build: the next waits for a rebuild"
            )
            self.compact(MAX_CHANGES - size)
        with self._changing, locked(self.folder, "writing"):
            self._catch_up()
            segment = self._mutable.segment
            check_columns(change.columns, self._mutable.snapshot.facts["columns"])
            foreign = change.rows is not None and change.rows.shape[1] != segment.rows.dimensions
            if foreign or (change.crops is None) != (segment.crops is None):
                raise IndexReplacedError(
                    f"{self.folder} was replaced meanwhile by an index of other descriptors: open it again"
                )
            change = self._completed(change)
            if change.names:
                self._append(change)
        self._compact_if_due()
        return len(change.names)

    def _completed(self, change: Change) -> Change:
        """Adds the column values that photos keep, and leaves out the photos whose columns cannot be changed."""
        places = [place for place, name in enumerate(change.names) if self._mutable.row_of(name) is not None]
        if change.on_columns:
            names = [change.names[place] for place in places]
            return replace(change, names=names, columns=_picked(change.columns, places))
        missing = [column for column in self._mutable.snapshot.facts["columns"] if column not in change.columns]
        if not places or not missing:
            return change
        known = self._values([change.names[place] for place in places])
        kept: dict[str, list[str]] = {}
        for column in missing:
            texts = [""] * len(change.names)
            for place, text in zip(places, known[column], strict=True):
                texts[place] = text
            kept |= {column: texts} if any(texts) else {}
        return replace(change, columns=change.columns | kept)

    def _values(self, names: Sequence[str]) -> dict[str, list[str]]:
        ids, order = np.unique(_row_numbers(self._mutable, names), return_inverse=True)
        return _picked(self._mutable.snapshot.columns(ids), order.tolist())

    def _append(self, change: Change) -> None:
        mutable = self._mutable
        mutable.apply(change, mutable.segment.log.append(change, mutable.position))
        self._seen = self._stamps()

    def _compact_if_due(self) -> None:
        clean(self.folder, self._mutable.segment.facts["segment"])
        changes = self._mutable.changes
        if changes > max(self._most_changes(), self._failed_at) and not (
            self._compaction and self._compaction.is_alive()
        ):
            log.info(
                f"{self.folder}: {changes:,} changes since the last build: another process rebuilds the index; "
                "searches and changes go on"
            )
            self._compaction = threading.Thread(target=self._compact_in_process, daemon=True)
            self._compaction.start()

    def _most_changes(self) -> int:
        """The number of changed rows from which a new segment is built; crops make many rows, so they wait for less."""
        segment = self._mutable.segment
        if segment.crops is None or segment.configuration["settings"]["exact"]:
            return MAX_CHANGES // 2
        return min(MAX_CHANGES // 2, max(CROPS_EXACT_BELOW, len(segment.rows) // 4))

    def _compact_in_process(self) -> None:
        # A separate process, since ScaNN holds the interpreter lock while it writes files, and searches would wait.
        started = time.monotonic()
        if reason := self._run_update():
            self._failed_at = self._mutable.changes + RETRY_AFTER
            log.warning("%s was not rebuilt, and goes on with its old files: %s", self.folder, reason)
        else:
            log.info(f"{self.folder}: rebuilt in {time.monotonic() - started:.1f} s")
        try:
            self._load_newest()
        except (OSError, ValueError) as error:
            self._report(error)
            self._loader.start(FIRST_PAUSE)

    def _run_update(self) -> str:
        """Rebuilds the index in another process; returns why that failed, or ""."""
        command = [*python_module("keras_retrieval"), "update", str(self.folder.absolute()), "--compact"]
        try:
            finished = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, env=clean_environment(), check=False
            )
        except OSError as error:
            return str(error)
        lines = finished.stderr.decode(errors="backslashreplace").splitlines()
        return failure(finished.returncode, lines) if finished.returncode else ""


def _to_stored(rows: np.ndarray, label: str, segment: Segment) -> np.ndarray:
    """Checks descriptors from a caller and reduces them to stored descriptors, C-contiguous float32."""
    rows = np.ascontiguousarray(rows, "float32")
    dimensions = segment.facts["dimensions"]
    check_shape(rows, {dimensions, segment.rows.dimensions}, dimensions, label)
    check_finite([rows], label)
    return segment.to_stored(rows)


def _warm_up(mutable: MutableSegment) -> None:
    """Searches with some rows, so that the pages of mapped files are read before the first request."""
    rows = mutable.segment.rows
    chosen = np.linspace(0, len(rows) - 1, min(_WARM_UP_QUERIES, len(rows))).astype(np.int64)
    mutable.snapshot.search(rows.take(chosen), 10, exact=False, where=None)


def _row_numbers(mutable: MutableSegment, names: Sequence[str]) -> np.ndarray:
    numbers = [mutable.row_of(name) for name in names]
    if None in numbers:
        raise ArgumentError(f"the index has no photo {names[numbers.index(None)]!r}")
    return np.array(numbers, np.int64)


def _picked(columns: Mapping[str, Sequence[str]], places: Sequence[int]) -> dict[str, list[str]]:
    return {column: [texts[place] for place in places] for column, texts in columns.items()}


def _photos_of(snapshot: Snapshot) -> PhotosToIndex:
    """Returns the photos of a snapshot, from which a new segment is built."""
    ids, segment = snapshot.ids(), snapshot.segment
    rows = RowBlocks(lambda: snapshot.rows(ids))
    crops = snapshot.crops(ids)
    names, columns = snapshot.names(ids), snapshot.columns(ids)
    return PhotosToIndex(names, rows, segment.rows.dimensions, columns, segment.projection, reduced=True, crops=crops)
