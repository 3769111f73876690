"""An index folder at an address, such as a bucket: searched in a copy on this machine, which is kept up to date.

The copy is an ordinary index folder, which the processes of one machine share: one of them at a time brings it up to
date. Files are compared with the checksums of the manifest before the copy's manifest is replaced, and changes are
taken from the log one by one, so that a search finds whole builds and whole changes only, whatever the order in which
files arrive at the address. While the storage does not answer, or has half of a build, the copy stays as it is.
"""

import hashlib
import json
import logging
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from keras_retrieval.pipelines.files.cache_folder import CACHE_VARIABLE
from keras_retrieval.pipelines.files.durable import MANIFEST, FolderError, parse_manifest, read_manifest, write_file
from keras_retrieval.pipelines.files.local_copy import fetch_files, place_for_copies
from keras_retrieval.pipelines.files.locks import lock
from keras_retrieval.pipelines.files.progress import waiting
from keras_retrieval.pipelines.files.remote import FileState, MissingFileError, RemoteError, RemoteFolder
from keras_retrieval.pipelines.files.remote_errors import shown
from keras_retrieval.pipelines.files.space import DiskSpaceError

from keras_retrieval.errors import ArgumentError

from ..index_contract.contract import IndexState
from ..index_contract.photo_crops import PhotoCrops
from .folder_index import FolderIndex
from .following import Following
from .layout import KIND, VERSION, locked
from .write_ahead_log import HEAD, LOG, LogPosition, WriteAheadLog

SECONDS = 5.0  # between two looks at the address
PATIENCE = 20.0  # seconds after which a server with an earlier copy starts, although the storage does not answer
EXTRA = "calibration.json"  # file beside the segments that is copied as well
EXTRAS = re.compile(r"calibration-[0-9a-f]{12}\.json")  # the same of other matchers; only a listing tells their names
LISTED_EVERY = 60.0  # seconds between two listings
_ATTEMPTS = 5  # to read a log that grows meanwhile
_DIGITS = 24  # of the hash of an address in the name of its copy

log = logging.getLogger("keras_retrieval")


class IndexCopy:
    """A copy of an index folder at an address.

    Args:
        address: the address, from `address_of`.
        folder: folder of the copy, which is made if it does not exist; None for one in the user's cache folder, or for
            one that is removed when the process ends if nothing is to be remembered.

    Attributes:
        folder: folder of the copy.

    Raises:
        FolderError: the folder is something else than a copy of this address, or cannot be written.
    """

    def __init__(self, address: str, folder: Path | None = None) -> None:
        self._remote = RemoteFolder(address)
        self.folder = folder or _default_folder(address)
        self._seen: dict[str, FileState] = {}
        self._listed, self._extras = float("-inf"), set[str]()
        self._fix = f"name another folder with {CACHE_VARIABLE if folder is None else '--index-copy'}"
        _check_folder(self.folder, address, self._fix)

    def update(self, wait: bool = False, *, anew: bool = False) -> None:
        """Brings the copy up to date, unless another process does so.

        Args:
            wait: whether to wait for that process.
            anew: whether the build is copied although the copy has it, because a file of the copy is damaged.

        Raises:
            FolderError: the address has no index, or one that is damaged or only half there.
            RemoteError: the storage does not answer, or refuses.
            DiskSpaceError: the copy does not fit on the disk.
            OSError: the copy cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".copying").open("a") as file:
            try:
                lock(file.fileno(), wait=wait)
            except BlockingIOError:
                return
            try:
                self._update(anew)
            except DiskSpaceError as error:
                place = shown(self._remote.address)
                raise DiskSpaceError(f"{error}; the copy of {place} is made there: {self._fix}") from error

    def _update(self, anew: bool) -> None:
        for left in (*self.folder.glob(".segment-*.writing"), *self.folder.glob(".log-*")):  # of a killed process
            shutil.rmtree(left, ignore_errors=True)
        state = self._state(MANIFEST)
        if anew or state != self._seen.get(MANIFEST) or not (self.folder / MANIFEST).exists():
            text = self._remote.read(MANIFEST)
            if anew or not self._is_current(text):
                self._copy_build(text)
            self._seen = {**self._seen, MANIFEST: state}
        try:
            manifest = read_manifest(self.folder, kind=KIND, version=VERSION)
        except FolderError:  # a file of the copy is gone
            self._copy_build(self._remote.read(MANIFEST))
            manifest = read_manifest(self.folder, kind=KIND, version=VERSION)
        states = self._log_states(manifest["segment"])
        if any(self._seen.get(name) != one for name, one in states.items()):
            if self._copy_changes(self.folder / manifest["segment"], manifest["log"]):
                self._seen |= states
            else:
                self._copy_build(self._remote.read(MANIFEST))
                self._seen[MANIFEST] = state
        self._list_extras()
        for name in sorted(self._extras):
            try:
                if (one := self._state(name)) != self._seen.get(name) or not (self.folder / name).exists():
                    write_file(self.folder / name, self._remote.read(name))
                    self._seen[name] = one
            except MissingFileError:
                self._seen.pop(name, None)
                (self.folder / name).unlink(missing_ok=True)

    def _list_extras(self) -> None:
        """Finds out now and then which calibrations there are; a storage that lists nothing has `EXTRA` only."""
        if time.monotonic() - self._listed < LISTED_EVERY:
            return
        before = {path.name for path in self.folder.glob("calibration-*.json") if EXTRAS.fullmatch(path.name)}
        listed = set[str]()
        if not self._remote.address.startswith(("http://", "https://")):  # their listings ask for each file
            with suppress(RemoteError, MissingFileError):
                listed = set(filter(EXTRAS.fullmatch, self._remote.files()))
        self._extras, self._listed = {EXTRA} | before | listed, time.monotonic()

    def _state(self, name: str) -> FileState:
        try:
            return self._remote.state(name)
        except MissingFileError as error:
            if name in self._extras:
                raise
            raise FolderError(
                f"{shown(self._remote.address)} has no {name}: it is not an index of `keras-retrieval index`, or it is "
                "being written"
            ) from error

    def _is_current(self, text: bytes) -> bool:
        try:
            return (self.folder / MANIFEST).read_bytes() == text
        except OSError:
            return False

    def _copy_build(self, text: bytes) -> None:
        """Copies the segment that a manifest names, and then the manifest."""
        manifest = parse_manifest(text, Path(self._remote.address), kind=KIND, version=VERSION)
        before, segment = self._current(), str(manifest["segment"])
        if "/" in segment or not segment.startswith("segment-"):
            raise FolderError(f"{shown(self._remote.address)}/{MANIFEST} is damaged: its segment is {segment!r}")
        self._remove_segments(before)
        place = self.folder / f".{segment}.writing"
        shutil.rmtree(place, ignore_errors=True)
        try:
            sums = {name: (None, str(digest)) for name, digest in manifest["sha256"].items()}
            with waiting(f"copying {shown(self._remote.address)}/{segment} to {self.folder}"):
                fetch_files(self._remote, sums, place)
                states = self._log_states(segment)
                self._fetch_log(segment, place / segment)
                _end(WriteAheadLog(place / segment, manifest["log"]))  # reports a log that is not whole
            with locked(self.folder, "writing"):
                shutil.rmtree(self.folder / segment, ignore_errors=True)  # of a folder that was made anew
                (place / segment).rename(self.folder / segment)
                write_file(self.folder / MANIFEST, text)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        self._seen = states

    def _log_states(self, segment: str) -> dict[str, FileState]:
        return {name: self._state(f"{segment}/{name}") for name in (LOG, HEAD)}

    def _copy_changes(self, segment: Path, identity: str) -> bool:
        """Appends the changes that the log of the copy lacks; returns False if its log is damaged or another one."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".log-") as place:
            self._fetch_log(segment.name, Path(place))
            there, here = WriteAheadLog(Path(place), identity), WriteAheadLog(segment, identity)
            changes = there.read(there.start)
            try:
                position = _end(here)
            except FolderError:
                return False
            if position not in (there.start, *(after for _, after in changes)):
                return False
            for change, after in changes:
                if after.records > position.records:
                    position = here.append(change, position)
        return True

    def _fetch_log(self, segment: str, place: Path) -> None:
        """Copies the log and its head, which belong together although a writer appends to it meanwhile."""
        for _ in range(_ATTEMPTS):
            head = self._remote.read(f"{segment}/{HEAD}")
            self._remote.fetch(f"{segment}/{LOG}", place / LOG)
            (place / HEAD).write_bytes(head)
            if self._remote.read(f"{segment}/{HEAD}") == head:
                return

    def _current(self) -> str | None:
        try:
            return str(json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))["segment"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remove_segments(self, kept: str | None) -> None:
        """Removes segments that were replaced before; processes keep what they have mapped."""
        for path in self.folder.glob("segment-*"):
            if path.name != kept:
                shutil.rmtree(path, ignore_errors=True)


class CopiedIndex(FolderIndex):
    """An open index at an address, which cannot be changed; implements `NeighbourIndex`.

    Args:
        address: the address, from `address_of`.
        folder: folder of the copy; None for one in the user's cache folder.
        following: how new builds are loaded once they are copied.
        seconds: seconds between two looks at the address.

    Attributes:
        folder: folder of the copy.

    Raises:
        FolderError: the address has no index, or one that is damaged.
        RemoteError: the storage does not answer, and there is no earlier copy.
        MissingExtraError: the index is searched approximately, and ScaNN is not installed.
    """

    def __init__(
        self,
        address: str,
        folder: Path | None = None,
        following: Following | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self._address, self._seconds = shown(address), seconds
        self._copy = IndexCopy(address, folder)
        self.folder = self._copy.folder
        self._stopped, self._failed_copies, self._copy_problem = threading.Event(), 0, ""
        self._first: Exception | None = None
        self._copied = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="index copy")
        self._thread.start()
        self._copied.wait(PATIENCE if (self.folder / MANIFEST).exists() else None)
        if self._first is not None and not (self.folder / MANIFEST).exists():
            self._stopped.set()
            raise self._first
        try:
            self._open(following)
        except BaseException:
            self._stopped.set()
            raise

    def _open(self, following: Following | None) -> None:
        try:
            super().__init__(self.folder, following)
        except FolderError as error:
            log.warning("the copy of %s is damaged (%s): it is copied again", self._address, error)
            try:
                self._copy.update(wait=True, anew=True)
            except (FolderError, RemoteError, OSError) as later:
                raise FolderError(f"{error}. It is a copy of {self._address}, to be copied again: {later}") from later
            super().__init__(self.folder, following)

    @property
    def state(self) -> IndexState:
        """The build that is searched, and whether it is the newest at the address; see `NeighbourIndex.state`."""
        state = super().state
        failures = state.failures + self._failed_copies
        return replace(state, failures=failures, problem=self._copy_problem or state.problem)

    def add(
        self,
        names: Sequence[str],
        rows: np.ndarray,
        columns: Mapping[str, Sequence[Any]] | None = None,
        *,
        crops: PhotoCrops | None = None,
    ) -> None:
        """Raises ArgumentError, because a copy cannot be changed."""
        self._refuse()

    def change_columns(self, names: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> int:
        """Raises ArgumentError, because a copy cannot be changed."""
        self._refuse()

    def add_columns(self, types: Mapping[str, str]) -> None:
        """Raises ArgumentError, because a copy cannot be changed."""
        self._refuse()

    def delete(self, names: Sequence[str]) -> int:
        """Raises ArgumentError, because a copy cannot be changed."""
        self._refuse()

    def compact(self, beyond: int = 0, grace: float | None = None) -> None:
        """Raises ArgumentError, because a copy cannot be changed."""
        self._refuse()

    def close(self) -> None:
        """Stops following the address; see `NeighbourIndex.close`."""
        self._stopped.set()
        super().close()

    def _refuse(self) -> NoReturn:
        raise ArgumentError(
            f"{self._address} is searched in a copy on this machine, which cannot be changed: change the index where "
            "it was made, and write it to the address again"
        )

    def _grace(self) -> float:
        return float("inf")  # files of this machine stay readable while they are mapped

    def _follow(self) -> None:
        while True:
            try:
                self._copy.update(wait=not self._copied.is_set())
                if self._copy_problem:
                    log.info("%s can be read again", self._address)
                self._copy_problem = ""
            except Exception as error:  # whatever it is: the thread must go on
                self._failed_copies += 1
                if str(error) != self._copy_problem:
                    self._copy_problem = str(error)
                    if (self.folder / MANIFEST).exists():  # otherwise the error is raised
                        log.warning("the copy of %s stays as it is: %s", self._address, error)
                if not self._copied.is_set():
                    self._first = error
            self._copied.set()
            if self._stopped.wait(self._seconds):
                return


def _end(written: WriteAheadLog) -> LogPosition:
    """The position after the last change in a log."""
    changes = written.read(written.start)
    return changes[-1][1] if changes else written.start


def _default_folder(address: str) -> Path:
    return place_for_copies() / "indexes" / hashlib.sha256(address.encode()).hexdigest()[:_DIGITS]


def _check_folder(folder: Path, address: str, fix: str) -> None:
    """Checks that a folder is free for the copy of an address, and marks it."""
    mark, identity = folder / ".address", hashlib.sha256(address.encode()).hexdigest()  # an address may have a password
    try:
        if folder.exists() and not folder.is_dir():
            raise FolderError(f"{folder} is a file, not a folder: {fix}")
        if mark.exists():
            if mark.read_text(encoding="utf-8") != identity:
                raise FolderError(f"{folder} has the copy of another address: {fix}")
            return
        # Another process may be writing the mark at this moment.
        if folder.exists() and not all(path.name.startswith(".") for path in folder.iterdir()):
            raise FolderError(f"{folder} is not empty: {fix}")
        folder.mkdir(parents=True, exist_ok=True)
        write_file(mark, identity)
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FolderError):
            raise
        raise FolderError(f"{folder} cannot hold the copy of {shown(address)} ({error}): {fix}") from error
