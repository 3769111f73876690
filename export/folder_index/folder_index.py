"""An index folder that is searched while it changes: `open_index(FOLDER)`, by any number of threads and processes.

What a search may have to wait for, by construction: no lock. It works on the latest snapshot (snapshot.py); beside the
hashes it scores at most CHANGES rows that were added since the build, for then a writer has to wait for a new
segment. That is built by another process, verified and loaded by another thread; only while ScaNN reads its hashes
does it hold Python's lock: for 0.125 s at 120,000 photos of 512 dimensions, and in proportion.

A write is in the log, on the disk, before it is acknowledged. Every process that has the folder open sees it in its
next search, and a segment that another one built as soon as it has loaded it.
"""

import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.durable import FolderError

from ..index_contract.checks import check_columns, check_names, check_rows, check_texts
from ..index_contract.contract import Filter, Hits
from ..index_contract.photos import PhotosToIndex, Rows
from ..index_contract.tuning import IndexSettings
from .builder import build_segment, start_log
from .layout import locked, new_segment, publish, read_index, remove_other_segments, stamp
from .segment import Segment
from .snapshot import MutableSegment, Snapshot
from .write_ahead_log import Change, FileStamp

CHANGES = 10_000  # rows added and deleted until a writer waits for a new segment; from half of them one is built
BUILDING = 3600.0  # seconds to wait for another process that builds one


class FolderIndex:
    """An index folder, a `NeighbourIndex`.

    Args:
        folder: what `keras-retrieval index` wrote.

    Raises:
        FolderError: the folder is no index, of another layout, or a file is missing, was cut or altered.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = threading.Lock()  # of _live and _stamp; a search that finds it held goes on without
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
        if k < 1:
            raise ValueError(f"k is at least 1, not {k}")
        snapshot = self._snapshot()
        check_columns(where.columns if where else (), snapshot.segment.facts["columns"])
        return snapshot.search(_fitting(queries, "queries", snapshot.segment), k, exact, where)

    def add(self, names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sequence[str]] | None = None) -> None:
        """See `NeighbourIndex.add`. More than CHANGES rows are several writes."""
        names, columns = list(names), dict(columns or {})
        check_names(names)
        check_columns(columns, self.facts["columns"])
        rows = _fitting(rows, "rows", self._mutable.segment)
        for what, many in {"rows": len(rows), **{f"values of '{key}'": len(columns[key]) for key in columns}}.items():
            if many != len(names):
                raise ValueError(f"{len(names)} names and {many} {what}")
        for column, texts in columns.items():
            check_texts(texts, f"a value of '{column}'")
        for start in range(0, len(names), CHANGES):
            part = slice(start, start + CHANGES)
            self._write(Change(names[part], rows[part], {key: list(columns[key][part]) for key in columns}))

    def delete(self, names: Sequence[str]) -> int:
        """See `NeighbourIndex.delete`."""
        names = list(dict.fromkeys(names))
        with self._changing, locked(self._folder, "writing"):
            self._catch_up()
            known = [name for name in names if self._mutable.number(name) is not None]
            if known:
                self._append(Change(known, None, {}))
        self._compact_in_time()
        return len(known)

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """See `NeighbourIndex.vectors`."""
        self._snapshot()
        mutable = self._mutable
        snapshot, count = mutable.snapshot, len(mutable.segment)
        if names is None:
            if snapshot.unchanged:
                return mutable.segment.rows.take(slice(None))
            return np.concatenate(
                [np.empty((0, mutable.segment.rows.dimensions), "f4"), *snapshot.rows(snapshot.ids())]
            )
        numbers = [mutable.number(name) for name in names]
        if None in numbers:
            raise ValueError(f"the index has no photo {names[numbers.index(None)]!r}")
        ids = np.array(numbers, np.int64)
        rows = np.empty((len(ids), mutable.segment.rows.dimensions), np.float32)
        rows[ids < count] = mutable.segment.rows.take(ids[ids < count])
        rows[ids >= count] = mutable.snapshot.added[ids[ids >= count] - count]
        return rows

    def compact(self, beyond: int = 0) -> None:
        """Builds a new segment of what is there, tuned as the first was; searches and writes go on meanwhile.

        Args:
            beyond: only if more rows than so many were added or deleted since the last one.

        Raises:
            OSError: the older segment stays in use: the disk failed, or another process was at it for an hour.
        """
        with locked(self._folder, "building", wait=BUILDING):
            with self._changing:
                self._catch_up()
                segment, snapshot, position = self._mutable.segment, self._mutable.snapshot, self._mutable.position
                if self._mutable.changes <= beyond:
                    return
            place = new_segment(self._folder, segment.facts["segment"])
            settings = IndexSettings.of(segment.how["asked"])
            facts = {**segment.facts, **build_segment(place, _photos(snapshot), settings)}
            with self._changing:
                with locked(self._folder, "writing"):
                    start_log(place, facts, [change for change, _ in segment.log.read(position)])
                    publish(self._folder, place, facts)
                self._load()
            remove_other_segments(self._folder, place.name)

    def close(self) -> None:
        """Waits for the new segment that is being built or loaded, if any."""
        for thread in (self._compaction, self._loading):
            if thread:
                thread.join()

    def _snapshot(self) -> Snapshot:
        """The latest snapshot, with what other processes wrote; without it where a thread here is just reading that."""
        if self._stamps() != self._seen and self._changing.acquire(blocking=False):
            try:
                if stamp(self._folder) == self._published:
                    self._catch_up()
                else:
                    self._seen = self._stamps()
                    self._loading = threading.Thread(target=self._reload, daemon=True)
                    self._loading.start()
            finally:
                self._changing.release()
        return self._mutable.snapshot

    def _stamps(self) -> tuple[FileStamp, FileStamp]:
        return stamp(self._folder), self._mutable.segment.log.stamp()

    def _catch_up(self) -> None:
        """Applies what is new in the log, or loads a new segment. The caller holds `_changing`."""
        published, seen = stamp(self._folder), self._stamps()
        try:
            if published == self._published:
                for change, position in self._mutable.segment.log.read(self._mutable.position):
                    self._mutable.apply(change, position)
                self._seen = seen
                return
        except FolderError:
            if stamp(self._folder) == published:
                raise
        self._load()

    def _load(self) -> None:
        """Verifies and opens what the folder holds now. The caller holds `_changing`."""
        while True:
            published = stamp(self._folder)
            try:
                facts = read_index(self._folder)
                mutable = MutableSegment(Segment(self._folder / facts["segment"], facts))
                seen = published, mutable.segment.log.stamp()
                for change, position in mutable.segment.log.read(mutable.position):
                    mutable.apply(change, position)
                break
            except (OSError, FolderError):
                if stamp(self._folder) == published:
                    raise
        self._mutable, self._published, self._seen = mutable, published, seen

    def _reload(self) -> None:
        with self._changing:
            try:
                self._catch_up()
            except (OSError, ValueError) as error:
                warnings.warn(f"the older segment of {self._folder} stays in use: {error}", stacklevel=1)

    def _write(self, change: Change) -> None:
        if self._mutable.changes + len(change.names) > CHANGES:
            self.compact(CHANGES - len(change.names))
        with self._changing, locked(self._folder, "writing"):
            self._catch_up()
            segment = self._mutable.segment
            check_columns(change.columns, segment.facts["columns"])
            if change.rows is not None and change.rows.shape[1] != segment.rows.dimensions:
                raise OSError(f"{self._folder} was replaced by an index of other descriptors meanwhile")
            self._append(change)
        self._compact_in_time()

    def _append(self, change: Change) -> None:
        mutable = self._mutable
        mutable.apply(change, mutable.segment.log.append(change, mutable.position))
        self._seen = self._stamps()

    def _compact_in_time(self) -> None:
        if self._mutable.changes > CHANGES // 2 and not (self._compaction and self._compaction.is_alive()):
            self._compaction = threading.Thread(target=self._compact_beside, daemon=True)
            self._compaction.start()

    def _compact_beside(self) -> None:
        # In a process of its own: ScaNN holds Python's lock while it writes its files, and searches would wait.
        command = [sys.executable, "-m", "keras_retrieval", "update", str(self._folder), "--compact"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            warnings.warn(f"{self._folder} was not compacted: {done.stderr[-1000:]}", stacklevel=1)
        self._reload()


def _fitting(rows: np.ndarray, what: str, segment: Segment) -> np.ndarray:
    """Rows of an index's width as they are stored, C-contiguous float32."""
    rows = np.ascontiguousarray(rows, "float32")
    if rows.ndim != 2:
        raise ValueError(f"{what} are an array (n, dimensions), not {rows.shape}")
    if rows.shape[1] not in (segment.facts["dimensions"], segment.rows.dimensions):
        raise ValueError(f"{what} have {rows.shape[1]} dimensions, the index {segment.facts['dimensions']}")
    check_rows([rows], what)
    return segment.reduced(rows)


def _photos(snapshot: Snapshot) -> PhotosToIndex:
    """What is there at a snapshot, to be built anew."""
    ids, segment = snapshot.ids(), snapshot.segment
    rows = Rows(lambda: snapshot.rows(ids))
    dimensions, projection = segment.rows.dimensions, segment.projection
    return PhotosToIndex(snapshot.names(ids), rows, dimensions, snapshot.columns(ids), projection, reduced=True)
