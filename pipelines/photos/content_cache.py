"""What the files of a folder contained when they were last looked at, kept in the user's cache folder.

One .npz file per folder of photos has the name, size, modification time and content of each file. A file that has
changed since, or that was written within two seconds before it was looked at, counts as not seen.
"""

import hashlib
import inspect
import logging
import os
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..files.cache_folder import cache_folder
from ..files.durable import atomic_path
from . import signatures

log = logging.getLogger("keras_retrieval")

_RECENT = 2_000_000_000  # ns: a file that is younger may be written once more without a change of its time
_DIGITS = 24  # of a file's name in the cache
_KEPT = 90 * 86_400  # seconds after which an unused file of the cache is deleted
_NONE = np.zeros(0, np.int64)


@cache
def _layout() -> str:
    """The state of the code that tells contents, since a later version may tell more of them."""
    return hashlib.sha256(f"1 {inspect.getsource(signatures)}".encode()).hexdigest()


class ContentCache:
    """The files of one folder that have been looked at: those of the last time, and those of this time.

    Args:
        path: the file of the cache, or None if nothing is to be remembered.
        contents: the distinct contents that the files of the last time had, as `intake` names them.
        names: the name of each file of the last time, in the order in which it was met.
        sizes: the size of each in bytes, int64.
        times: the modification time of each in ns, int64.
        kinds: the row in `contents` of each, uint16.
    """

    def __init__(
        self,
        path: Path | None,
        contents: Sequence[str] = (),
        names: Sequence[str] = (),
        sizes: np.ndarray = _NONE,
        times: np.ndarray = _NONE,
        kinds: np.ndarray = _NONE,
    ) -> None:
        self._path, self._names, self._sizes, self._times, self._kinds = path, list(names), sizes, times, kinds
        self._contents = list(contents)
        self._known = {content: number for number, content in enumerate(self._contents)}
        self._next = 0  # the row after those that were found last
        self._new: list[str] = []
        self._new_sizes, self._new_times, self._new_kinds = array("q"), array("q"), array("H")
        self._now = time.time_ns()

    @classmethod
    def load(cls, folder: Path) -> "ContentCache":
        """Reads what is remembered of a folder; nothing if the cache has no file of it or a damaged one."""
        cache = cache_folder()
        if cache is None:
            return cls(None)
        name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:_DIGITS]
        path = cache / "intake" / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                if str(stored["layout"]) != _layout():
                    return cls(path)
                names = stored["names"].tobytes().decode().split("\0")
                sizes, times = (stored[key].astype(np.int64, copy=False) for key in ("sizes", "times"))
                kinds = stored["kinds"].astype(np.uint16, copy=False)
                contents = stored["contents"].tobytes().decode().split("\0")
        except FileNotFoundError:
            return cls(path)
        except Exception as error:  # NumPy and zipfile raise many kinds of errors for a damaged file
            log.debug(f"{path} is damaged and will be made anew: {error}")
            return cls(path)
        shapes = {(len(names),)} | {column.shape for column in (sizes, times, kinds)}
        if len(shapes) > 1 or kinds.max(initial=0) >= len(contents):
            return cls(path)
        return cls(path, contents, names, sizes, times, kinds)

    def found(self, names: list[str]) -> tuple[list[str], np.ndarray | None]:
        """Finds files of the last time, fastest in the order of that time.

        Args:
            names: the names of files.

        Returns:
            The names, and the row of each, -1 for one that is not known; None if none is.
        """
        start, end = self._next, self._next + len(names)
        if self._names[start:end] == names:
            self._next = end
            return self._names[start:end], np.arange(start, end)  # the same texts, so that they are in memory once
        rows = np.array([self._rows.get(name, -1) for name in names], np.int64)
        if rows.max(initial=-1) < 0:
            return names, None
        self._next = int(rows.max()) + 1
        return names, rows

    def row_of(self, name: str) -> int | None:
        """The row of a file of the last time, or None."""
        return self._rows.get(name)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return dict(zip(self._names, range(len(self._names)), strict=True))

    def content(self, row: int, size: int, changed: int) -> str | None:
        """Returns the content of a file that has not changed, or None.

        Args:
            row: the row of the file.
            size: its size in bytes.
            changed: its modification time in ns.
        """
        if self._sizes[row] != size or self._times[row] != changed:
            return None
        return self._contents[self._kinds[row]]

    def are_photos(self, rows: np.ndarray, sizes: array, times: array) -> np.ndarray:
        """Returns of each file whether it is a photo of the last time that has not changed, (n,) bool.

        Args:
            rows: the row of each file, (n,), -1 for one that is not known.
            sizes: the size of each in bytes.
            times: the modification time of each in ns.
        """
        same = (self._sizes[rows] == np.frombuffer(sizes, np.int64)) & (
            self._times[rows] == np.frombuffer(times, np.int64)
        )
        return same & (self._kinds[rows] == self._known.get("", -1)) & (rows >= 0)

    def keep(self, names: Sequence[str], sizes: array, times: array) -> None:
        """Remembers photos that have not changed."""
        self._new += names
        self._new_sizes += sizes
        self._new_times += times
        self._new_kinds.frombytes(np.full(len(names), self._known[""], np.uint16).tobytes())

    def note(self, name: str, size: int, changed: int, content: str) -> None:
        """Remembers the content of a file; see `content` for the arguments."""
        if changed > self._now - _RECENT or "\0" in content:
            return
        number = self._known.setdefault(content, len(self._contents))
        if number == len(self._contents):
            self._contents.append(content)
        self._new.append(name)
        self._new_sizes.append(size)
        self._new_times.append(changed)
        self._new_kinds.append(number)

    def save(self) -> None:
        """Writes the cache, with the files of this time. A cache that cannot be written is not an error."""
        if self._path is None:
            return
        columns: dict[str, Any] = {
            "sizes": np.frombuffer(self._new_sizes, np.int64),
            "times": np.frombuffer(self._new_times, np.int64),
            "kinds": np.frombuffer(self._new_kinds, np.uint16),
        }
        before: dict[str, Any] = {"sizes": self._sizes, "times": self._times, "kinds": self._kinds}
        if self._new == self._names and all(np.array_equal(before[key], columns[key]) for key in columns):
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._path, sync=False) as temporary, temporary.open("wb") as file:
                np.savez(
                    file,
                    layout=np.array(_layout()),
                    names=np.frombuffer("\0".join(self._new).encode(), np.uint8),
                    contents=np.frombuffer("\0".join(self._contents).encode(), np.uint8),
                    **columns,
                )
            self._prune()
        except OSError as error:
            log.debug(f"{self._path} cannot be written, so that the next run opens each file again: {error}")

    def _prune(self) -> None:
        """Deletes the files of folders that were not read for a long time."""
        assert self._path is not None
        oldest = time.time() - _KEPT
        for file in self._path.parent.glob(f"{'[0-9a-f]' * _DIGITS}.npz"):
            with suppress(OSError):
                if file.stat().st_mtime < oldest:
                    file.unlink()
