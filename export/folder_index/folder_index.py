"""An index folder that is searched while it changes: `open_index(FOLDER)`, by any number of threads and processes.

What a search may have to wait for, by construction: no lock. It works on the latest moment (live_rows.py); beside the
hashes it scores at most CHANGES rows that were added since the build, for then a writer has to wait for a new
generation. That is built by another process, verified and loaded by another thread; only while ScaNN reads its hashes
does it hold Python's lock: for 0.125 s at 120,000 photos of 512 dimensions, and in proportion.

A write is in the log, on the disk, before it is acknowledged. Every process that has the folder open sees it in its
next search, and a generation that another one built as soon as it has loaded it.
"""

import shutil
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
from ..index_contract.photos import Photos, Rows
from ..index_contract.tuning import Settings
from .builder import begin_log, build_generation
from .layout import locked, new_generation, publish, read_index, stamp
from .segment import Generation
from .snapshot import LiveRows, Moment
from .write_ahead_log import Change, Stamp

CHANGES = 10_000  # rows added and deleted until a writer waits for a new generation; from half of them one is built
BUILDING = 3600.0  # seconds to wait for another process that builds one


class ScannIndex:
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
        self._live: LiveRows
        self._published: Stamp
        self._seen: tuple[Stamp, Stamp]
        self._load()

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `NeighbourIndex.facts`."""
        return self._live.generation.facts

    @property
    def names(self) -> list[str]:
        """See `NeighbourIndex.names`."""
        moment = self._moment()
        return moment.generation.names if moment.unchanged else moment.names(moment.ids())

    def __len__(self) -> int:
        return self._moment().size

    def search(
        self, queries: np.ndarray, k: int = 10, *, exact: bool = False, where: Filter | None = None
    ) -> list[Hits]:
        """See `NeighbourIndex.search`."""
        if k < 1:
            raise ValueError(f"k is at least 1, not {k}")
        moment = self._moment()
        check_columns(where.columns if where else (), moment.generation.facts["columns"])
        return moment.search(_fitting(queries, "queries", moment.generation), k, exact, where)

    def add(self, names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sequence[str]] | None = None) -> None:
        """See `NeighbourIndex.add`. More than CHANGES rows are several writes."""
        names, columns = list(names), dict(columns or {})
        check_names(names)
        check_columns(columns, self.facts["columns"])
        rows = _fitting(rows, "rows", self._live.generation)
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
            known = [name for name in names if self._live.number(name) is not None]
            if known:
                self._append(Change(known, None, {}))
        self._compact_in_time()
        return len(known)

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """See `NeighbourIndex.vectors`."""
        self._moment()
        live = self._live
        moment, count = live.moment, len(live.generation)
        if names is None:
            if moment.unchanged:
                return live.generation.rows.take(slice(None))
            return np.concatenate([np.empty((0, live.generation.rows.dimensions), "f4"), *moment.rows(moment.ids())])
        numbers = [live.number(name) for name in names]
        if None in numbers:
            raise ValueError(f"the index has no photo {names[numbers.index(None)]!r}")
        ids = np.array(numbers, np.int64)
        rows = np.empty((len(ids), live.generation.rows.dimensions), np.float32)
        rows[ids < count] = live.generation.rows.take(ids[ids < count])
        rows[ids >= count] = live.moment.added[ids[ids >= count] - count]
        return rows

    def compact(self, beyond: int = 0) -> None:
        """Builds a new generation of what is there, tuned as the first was; searches and writes go on meanwhile.

        Args:
            beyond: only if more rows than so many were added or deleted since the last one.

        Raises:
            OSError: the older generation stays in use: the disk failed, or another process was at it for an hour.
        """
        with locked(self._folder, "building", wait=BUILDING):
            with self._changing:
                self._catch_up()
                generation, moment, position = self._live.generation, self._live.moment, self._live.position
                if self._live.changes <= beyond:
                    return
            place = new_generation(self._folder, generation.facts["generation"])
            settings = Settings.of(generation.how["asked"])
            facts = {**generation.facts, **build_generation(place, _photos(moment), settings)}
            with self._changing:
                with locked(self._folder, "writing"):
                    begin_log(place, facts, [change for change, _ in generation.log.read(position)])
                    publish(self._folder, place, facts)
                self._load()
            shutil.rmtree(self._folder / generation.facts["generation"], ignore_errors=True)

    def close(self) -> None:
        """Waits for the new generation that is being built or loaded, if any."""
        for thread in (self._compaction, self._loading):
            if thread:
                thread.join()

    def _moment(self) -> Moment:
        """The latest moment, with what other processes wrote; without it where a thread here is just reading that."""
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
        return self._live.moment

    def _stamps(self) -> tuple[Stamp, Stamp]:
        return stamp(self._folder), self._live.generation.log.stamp()

    def _catch_up(self) -> None:
        """Applies what is new in the log, or loads a new generation. The caller holds `_changing`."""
        published, seen = stamp(self._folder), self._stamps()
        try:
            if published == self._published:
                for change, position in self._live.generation.log.read(self._live.position):
                    self._live.apply(change, position)
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
                live = LiveRows(Generation(self._folder / facts["generation"], facts))
                seen = published, live.generation.log.stamp()
                for change, position in live.generation.log.read(live.position):
                    live.apply(change, position)
                break
            except (OSError, FolderError):
                if stamp(self._folder) == published:
                    raise
        self._live, self._published, self._seen = live, published, seen

    def _reload(self) -> None:
        with self._changing:
            try:
                self._catch_up()
            except (OSError, ValueError) as error:
                warnings.warn(f"the older generation of {self._folder} stays in use: {error}", stacklevel=1)

    def _write(self, change: Change) -> None:
        if self._live.changes + len(change.names) > CHANGES:
            self.compact(CHANGES - len(change.names))
        with self._changing, locked(self._folder, "writing"):
            self._catch_up()
            generation = self._live.generation
            check_columns(change.columns, generation.facts["columns"])
            if change.rows is not None and change.rows.shape[1] != generation.rows.dimensions:
                raise OSError(f"{self._folder} was replaced by an index of other descriptors meanwhile")
            self._append(change)
        self._compact_in_time()

    def _append(self, change: Change) -> None:
        live = self._live
        live.apply(change, live.generation.log.append(change, live.position))
        self._seen = self._stamps()

    def _compact_in_time(self) -> None:
        if self._live.changes > CHANGES // 2 and not (self._compaction and self._compaction.is_alive()):
            self._compaction = threading.Thread(target=self._compact_beside, daemon=True)
            self._compaction.start()

    def _compact_beside(self) -> None:
        # In a process of its own: ScaNN holds Python's lock while it writes its files, and searches would wait.
        command = [sys.executable, "-m", "keras_retrieval", "update", str(self._folder), "--compact"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            warnings.warn(f"{self._folder} was not compacted: {done.stderr[-1000:]}", stacklevel=1)
        self._reload()


def _fitting(rows: np.ndarray, what: str, generation: Generation) -> np.ndarray:
    """Rows of an index's width as they are stored, C-contiguous float32."""
    rows = np.ascontiguousarray(rows, "float32")
    if rows.ndim != 2:
        raise ValueError(f"{what} are an array (n, dimensions), not {rows.shape}")
    if rows.shape[1] not in (generation.facts["dimensions"], generation.rows.dimensions):
        raise ValueError(f"{what} have {rows.shape[1]} dimensions, the index {generation.facts['dimensions']}")
    check_rows([rows], what)
    return generation.shortened(rows)


def _photos(moment: Moment) -> Photos:
    """What is there at a moment, to be built anew."""
    ids, generation = moment.ids(), moment.generation
    rows = Rows(lambda: moment.rows(ids))
    dimensions, shortening = generation.rows.dimensions, generation.shortening
    return Photos(moment.names(ids), rows, dimensions, moment.columns(ids), shortening, shortened=True)
