"""An index folder that any number of threads and processes can search while it changes; see `open_index`.

Searches take no lock: each uses the latest snapshot (snapshot.py). In addition to the hashes, a search scores at most
`MAX_CHANGES` rows added since the build, because a writer that would exceed this number waits for a new segment.
Another process builds the segment, and another thread verifies and loads it. Python's global interpreter lock is held
only while ScaNN reads its hashes: 0.125 s for 120,000 photos of 512 dimensions, in proportion to the size.

A write is in the log, on disk, before it is acknowledged. Every process that has the folder open sees the write in its
next search, and sees a segment built by another process once it has loaded the segment.
"""

import logging
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.durable import FolderError

from keras_retrieval.errors import ArgumentError

from ..index_contract.checks import (
    check_columns,
    check_finite,
    check_k,
    check_lengths,
    check_names,
    check_shape,
    check_strings,
)
from ..index_contract.contract import Filter, Hits
from ..index_contract.errors import IndexReplacedError
from ..index_contract.index_settings import IndexSettings
from ..index_contract.photos_to_index import PhotosToIndex, RowBlocks
from .builder import build_segment, create_log
from .layout import locked, manifest_stamp, new_segment, publish, read_index, remove_other_segments
from .segment import Segment
from .snapshot import MutableSegment, Snapshot
from .write_ahead_log import Change, FileStamp

MAX_CHANGES = 10_000  # rows added and removed until a writer waits for a new segment; building starts at half
BUILD_TIMEOUT = 3600.0  # seconds to wait for another process that is building a segment

log = logging.getLogger("keras_retrieval")


class FolderIndex:
    """A `NeighbourIndex` in an open index folder.

    Args:
        folder: folder of an index written by `keras-retrieval index`.

    Raises:
        FolderError: the folder does not exist, is not an index or has another layout, or a file is missing or altered.
        MissingExtraError: the search is approximate, and ScaNN is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = threading.Lock()  # guards _mutable and _seen; searches do not wait for it
        self._compaction: threading.Thread | None = None
        self._loading: threading.Thread | None = None
        self._mutable: MutableSegment
        self._published: FileStamp
        self._seen: tuple[FileStamp, FileStamp]
        self._load()

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `NeighbourIndex.facts`."""
        return self._mutable.segment.facts

    @property
    def names(self) -> list[str]:
        """See `NeighbourIndex.names`."""
        snapshot = self._snapshot()
        return snapshot.segment.names if snapshot.unchanged else snapshot.names(snapshot.ids())

    def __len__(self) -> int:
        return self._snapshot().size

    def search(
        self, queries: np.ndarray, k: int = 10, *, exact: bool = False, where: Filter | None = None
    ) -> list[Hits]:
        """See `NeighbourIndex.search`."""
        check_k(k)
        snapshot = self._snapshot()
        check_columns(where.columns if where else (), snapshot.segment.facts["columns"])
        return snapshot.search(_to_stored(queries, "queries", snapshot.segment), k, exact, where)

    def add(self, names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sequence[str]] | None = None) -> None:
        """See `NeighbourIndex.add`. More than `MAX_CHANGES` rows are split into several writes."""
        names, columns = list(names), dict(columns or {})
        check_names(names)
        check_columns(columns, self.facts["columns"])
        rows = _to_stored(rows, "rows", self._mutable.segment)
        check_lengths(names, rows, columns)
        for column, texts in columns.items():
            check_strings(texts, f"a value of '{column}'")
        for start in range(0, len(names), MAX_CHANGES):
            part = slice(start, start + MAX_CHANGES)
            self._write(Change(names[part], rows[part], {key: list(columns[key][part]) for key in columns}))

    def delete(self, names: Sequence[str]) -> int:
        """See `NeighbourIndex.delete`."""
        names = list(dict.fromkeys(names))
        with self._changing, locked(self._folder, "writing"):
            self._catch_up()
            known = [name for name in names if self._mutable.row_of(name) is not None]
            if known:
                self._append(Change(known, None, {}))
        self._compact_if_due()
        return len(known)

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """See `NeighbourIndex.vectors`."""
        self._snapshot()
        mutable = self._mutable
        segment, snapshot, count = mutable.segment, mutable.snapshot, len(mutable.segment)
        if names is None:
            if snapshot.unchanged:
                return segment.rows.take(slice(None))
            empty = np.empty((0, segment.rows.dimensions), np.float32)
            return np.concatenate([empty, *snapshot.rows(snapshot.ids())])
        numbers = [mutable.row_of(name) for name in names]
        if None in numbers:
            raise ArgumentError(f"the index has no photo {names[numbers.index(None)]!r}")
        ids = np.array(numbers, np.int64)
        rows = np.empty((len(ids), segment.rows.dimensions), np.float32)
        rows[ids < count] = segment.rows.take(ids[ids < count])
        rows[ids >= count] = snapshot.added[ids[ids >= count] - count]
        return rows

    def compact(self, beyond: int = 0) -> None:
        """Builds a new segment from the present photos with the original settings, and tunes its search again.

        Searches and writes continue during the build.

        Args:
            beyond: number of rows added or removed since the last build up to which nothing is done.

        Raises:
            OSError: the disk failed, or another process has been building a segment for an hour; the old segment
                stays in use.
        """
        with locked(self._folder, "building", wait=BUILD_TIMEOUT):
            with self._changing:
                self._catch_up()
                segment, snapshot, position = self._mutable.segment, self._mutable.snapshot, self._mutable.position
                if self._mutable.changes <= beyond:
                    return
            place = new_segment(self._folder, segment.facts["segment"])
            settings = IndexSettings(**segment.configuration["settings"])
            facts = {**segment.facts, **build_segment(place, _photos_of(snapshot), settings)}
            with self._changing:
                with locked(self._folder, "writing"):
                    create_log(place, facts, [change for change, _ in segment.log.read(position)])
                    publish(self._folder, place, facts)
                self._load()
            remove_other_segments(self._folder, place.name)

    def close(self) -> None:
        """Waits until a segment that is being built or loaded is complete."""
        for thread in (self._compaction, self._loading):
            if thread:
                thread.join()

    def _snapshot(self) -> Snapshot:
        """Returns the latest snapshot, with changes of other processes unless another thread is just reading them."""
        if self._stamps() != self._seen and self._changing.acquire(blocking=False):
            try:
                if manifest_stamp(self._folder) == self._published:
                    self._catch_up()
                else:
                    self._seen = self._stamps()
                    self._loading = threading.Thread(target=self._reload, daemon=True)
                    self._loading.start()
            finally:
                self._changing.release()
        return self._mutable.snapshot

    def _stamps(self) -> tuple[FileStamp, FileStamp]:
        return manifest_stamp(self._folder), self._mutable.segment.log.stamp()

    def _catch_up(self) -> None:
        """Applies new changes of the log, or loads a new segment. The caller holds `_changing`."""
        published, seen = manifest_stamp(self._folder), self._stamps()
        try:
            if published == self._published:
                for change, position in self._mutable.segment.log.read(self._mutable.position):
                    self._mutable.apply(change, position)
                self._seen = seen
                return
        except FolderError:
            if manifest_stamp(self._folder) == published:
                raise
        self._load()

    def _load(self) -> None:
        """Verifies and opens the current segment. The caller holds `_changing`."""
        while True:
            published = manifest_stamp(self._folder)
            try:
                facts = read_index(self._folder)
                mutable = MutableSegment(Segment(self._folder / facts["segment"], facts))
                seen = published, mutable.segment.log.stamp()
                for change, position in mutable.segment.log.read(mutable.position):
                    mutable.apply(change, position)
                break
            except (OSError, FolderError):
                if manifest_stamp(self._folder) == published:
                    raise
        self._mutable, self._published, self._seen = mutable, published, seen

    def _reload(self) -> None:
        with self._changing:
            try:
                self._catch_up()
            except (OSError, ValueError) as error:
                log.warning("the older segment of %s stays in use: %s", self._folder, error)

    def _write(self, change: Change) -> None:
        if self._mutable.changes + len(change.names) > MAX_CHANGES:
            self.compact(MAX_CHANGES - len(change.names))
        with self._changing, locked(self._folder, "writing"):
            self._catch_up()
            segment = self._mutable.segment
            check_columns(change.columns, segment.facts["columns"])
            if change.rows is not None and change.rows.shape[1] != segment.rows.dimensions:
                raise IndexReplacedError(
                    f"{self._folder} was replaced meanwhile by an index of other descriptors: open it again"
                )
            self._append(change)
        self._compact_if_due()

    def _append(self, change: Change) -> None:
        mutable = self._mutable
        mutable.apply(change, mutable.segment.log.append(change, mutable.position))
        self._seen = self._stamps()

    def _compact_if_due(self) -> None:
        if self._mutable.changes > MAX_CHANGES // 2 and not (self._compaction and self._compaction.is_alive()):
            self._compaction = threading.Thread(target=self._compact_in_process, daemon=True)
            self._compaction.start()

    def _compact_in_process(self) -> None:
        # A separate process, since ScaNN holds the interpreter lock while it writes files, and searches would wait.
        command = [sys.executable, "-m", "keras_retrieval", "update", str(self._folder), "--compact"]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            log.warning("%s was not compacted: %s", self._folder, finished.stderr[-1000:])
        self._reload()


def _to_stored(rows: np.ndarray, label: str, segment: Segment) -> np.ndarray:
    """Checks rows of a caller and reduces them to stored rows, C-contiguous float32."""
    rows = np.ascontiguousarray(rows, "float32")
    dimensions = segment.facts["dimensions"]
    check_shape(rows, {dimensions, segment.rows.dimensions}, dimensions, label)
    check_finite([rows], label)
    return segment.to_stored(rows)


def _photos_of(snapshot: Snapshot) -> PhotosToIndex:
    """Returns the photos of a snapshot, to build a new segment from."""
    ids, segment = snapshot.ids(), snapshot.segment
    rows = RowBlocks(lambda: snapshot.rows(ids))
    names, columns = snapshot.names(ids), snapshot.columns(ids)
    return PhotosToIndex(names, rows, segment.rows.dimensions, columns, segment.projection, reduced=True)
