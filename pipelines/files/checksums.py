"""Checksums that are kept between runs, so that a large folder is not read again each time that it is verified.

A checksum counts for a file with the size, inode, modification time and status change time that it had when it was
read. The status change time is set by the system at every write and cannot be set by programs, so that a changed file
is noticed even if its modification time was restored. A file is read again if it was copied, restored or replaced.

The checksums of a folder are kept in FOLDER/.checksums.json, for all machines that mount it, and where that cannot be
written in the user's cache folder.
"""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .durable import sha256_of, write_file
from .remembered import read_remembered, remember

FILE = ".checksums.json"
KEPT_FROM = 2**26  # bytes of files that were read, from which on their checksums are worth keeping
_REMEMBERED, _MOST_FOLDERS = "checksums.json", 100
_YOUNG = 2.0  # seconds: a file system may give the same time to a change that follows so soon

_Entry = list[Any]
"""Size, modification time, status change time and inode of a file, and its SHA-256."""


class Checksums:
    """The checksums of the files of a folder.

    Args:
        folder: the folder; it need not be writable.
        trusted: whether kept checksums are used; otherwise all files are read.

    Attributes:
        used: whether `sha256` has returned a kept checksum.
    """

    def __init__(self, folder: Path, *, trusted: bool = True) -> None:
        self._folder = folder
        self._kept: list[dict[str, _Entry]] = []
        if trusted:
            self._kept += [_read(folder / FILE), _entries(read_remembered(_REMEMBERED).get(str(folder.absolute())))]
        self._current: dict[str, _Entry] = {}
        self._read_bytes = 0
        self.used = False

    def sha256(self, path: Path) -> str:
        """Returns the SHA-256 of a file in the folder; reads the file unless it has not changed since it was read.

        Raises:
            OSError: the file cannot be read.
        """
        name, state, now = path.relative_to(self._folder).as_posix(), _state(path), time.time()
        for kept in self._kept:
            entry = kept.get(name)
            if entry is not None and entry[:-1] == state:
                self._current[name] = entry
                self.used = True
                return str(entry[-1])
        digest = sha256_of(path)
        _, modified, changed, _ = state
        if max(modified, changed) / 1e9 < now - _YOUNG and _state(path) == state:
            self._current[name] = [*state, digest]
            self._read_bytes += state[0]
        return digest

    def keep(self) -> None:
        """Keeps the checksums of the files that were asked for, and forgets others, if that saves time in the next run.

        Does nothing where neither the folder nor the user's cache folder can be written.
        """
        if self._read_bytes < KEPT_FROM:
            return
        self._read_bytes = 0
        try:
            write_file(self._folder / FILE, json.dumps(self._current, indent=1))
        except OSError:
            with suppress(OSError):
                remember(_REMEMBERED, str(self._folder.absolute()), self._current, most=_MOST_FOLDERS)


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read(path: Path) -> dict[str, _Entry]:
    try:
        return _entries(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return {}


def _entries(found: Any) -> dict[str, _Entry]:
    """The sound entries of a file that may be damaged."""
    if not isinstance(found, dict):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, list) and len(entry) == 5}
