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
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from ..files.cache_folder import cache_folder
from ..files.durable import atomic_path
from . import signatures

log = logging.getLogger("keras_retrieval")

_RECENT = 2_000_000_000  # ns: a file that is younger may be written once more without a change of its time
_DIGITS = 24  # of a file's name in the cache
_KEPT = 90 * 86_400  # seconds after which an unused file of the cache is deleted


@cache
def _layout() -> str:
    """The state of the code that tells contents, since a later version may tell more of them."""
    return hashlib.sha256(f"1 {inspect.getsource(signatures)}".encode()).hexdigest()


@dataclass
class ContentCache:
    """The files of one folder that have been looked at.

    Attributes:
        path: the file of the cache, or None if nothing is to be remembered.
        contents: the distinct contents that rows refer to, as `intake` names them.
        rows: maps the name of each file of the last time to its row.
        sizes: the size of each file in bytes.
        times: the modification time of each file in ns.
        kinds: the row in `contents` of each file.
    """

    path: Path | None
    contents: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    sizes: array = field(default_factory=lambda: array("q"))
    times: array = field(default_factory=lambda: array("q"))
    kinds: array = field(default_factory=lambda: array("H"))

    def __post_init__(self) -> None:
        self._known = {content: number for number, content in enumerate(self.contents)}
        self._photo = self._known.get("", -1)
        self._met = bytearray(len(self.sizes))  # 1 for each file of the last time that is unchanged
        self._new: list[str] = []
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
                sizes, times = (array("q", stored[key].tobytes()) for key in ("sizes", "times"))
                kinds = array("H", stored["kinds"].tobytes())
                contents = stored["contents"].tobytes().decode().split("\0")
        except FileNotFoundError:
            return cls(path)
        except Exception as error:  # NumPy and zipfile raise many kinds of errors for a damaged file
            log.debug(f"{path} is damaged and will be made anew: {error}")
            return cls(path)
        if {len(names), len(sizes), len(times)} != {len(kinds)} or max(kinds, default=0) >= len(contents):
            return cls(path)
        return cls(path, contents, dict(zip(names, range(len(names)), strict=True)), sizes, times, kinds)

    def content(self, name: str, size: int, changed: int) -> str | None:
        """Returns the content of a file that has not changed, or None.

        Args:
            name: the name of the file.
            size: its size in bytes.
            changed: its modification time in ns.
        """
        row = self.rows.get(name)
        if row is None or self.sizes[row] != size or self.times[row] != changed:
            return None
        self._met[row] = 1
        return self.contents[self.kinds[row]]

    def is_photo(self, row: int, size: int, changed: int) -> bool:
        """Returns whether a file of the last time is a photo that has not changed.

        Args:
            row: its row.
            size: its size in bytes.
            changed: its modification time in ns.
        """
        if self.kinds[row] != self._photo or self.sizes[row] != size or self.times[row] != changed:
            return False
        self._met[row] = 1
        return True

    def note(self, name: str, size: int, changed: int, content: str) -> None:
        """Remembers the content of a file; see `content` for the arguments."""
        if self.path is None or changed > self._now - _RECENT or "\0" in content:
            return
        number = self._known.setdefault(content, len(self.contents))
        if number == len(self.contents):
            self.contents.append(content)
        self._new.append(name)
        self.sizes.append(size)
        self.times.append(changed)
        self.kinds.append(number)

    def save(self) -> None:
        """Writes the cache, without the files that are gone. A cache that cannot be written is not an error."""
        if self.path is None or (not self._new and all(self._met)):
            return
        names = [*self.rows, *self._new]
        kept = np.flatnonzero(np.frombuffer(self._met + b"\1" * len(self._new), np.uint8))
        names = [names[row] for row in kept]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.path, sync=False) as temporary, temporary.open("wb") as file:
                np.savez(
                    file,
                    layout=np.array(_layout()),
                    names=np.frombuffer("\0".join(names).encode(), np.uint8),
                    contents=np.frombuffer("\0".join(self.contents).encode(), np.uint8),
                    sizes=np.frombuffer(self.sizes, np.int64)[kept],
                    times=np.frombuffer(self.times, np.int64)[kept],
                    kinds=np.frombuffer(self.kinds, np.uint16)[kept],
                )
            self._prune()
        except OSError as error:
            log.debug(f"{self.path} cannot be written, so that the next run opens each file again: {error}")

    def _prune(self) -> None:
        """Deletes the files of folders that were not read for a long time."""
        assert self.path is not None
        oldest = time.time() - _KEPT
        for file in self.path.parent.glob(f"{'[0-9a-f]' * _DIGITS}.npz"):
            with suppress(OSError):
                if file.stat().st_mtime < oldest:
                    file.unlink()
