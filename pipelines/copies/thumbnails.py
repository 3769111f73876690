"""Small grey thumbnails of photos, computed once and kept in the user's cache folder.

The cache has one folder for each folder of photos. A photo is read again if the size or the modification time of its
file has changed. Thumbnails are stored in shards while photos are read, so that a killed run continues where it was.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files.arrays import load_array
from ..files.cache_folder import cache_folder
from ..files.durable import FolderError, State, atomic_path
from ..files.progress import progress
from ..files.remote import address_of
from ..photos.formats import Source
from ..photos.reader import MAX_PIXELS, PhotoError, photo_size, read_photo
from ..photos.remote_photos import photo_in, photo_readers

log = logging.getLogger("keras_retrieval")

SIDE = 96
"""The width and height of a thumbnail in pixels, to which a photo of any aspect ratio is stretched."""

_LAYOUT = 1
_SHARD = 2000  # photos
_PORTION = 64  # photos that are read side by side
_STORED_EVERY = 30.0  # seconds
_KEPT = 90 * 86_400  # seconds after which an unused folder of the cache is deleted


@dataclass(frozen=True)
class Thumbnails:
    """The thumbnails of n photos; `read` returns their pixels.

    Attributes:
        names: the names of the photos that could be read.
        sizes: (n, 2) width and height of each photo in pixels, after its EXIF orientation is applied.
        colours: (n, 3) mean colour of each photo.
        left_out: maps the names of photos that cannot be read to the reasons.
    """

    names: list[str]
    sizes: np.ndarray
    colours: np.ndarray
    left_out: dict[str, str]
    _shards: Sequence[np.ndarray]
    _shard: np.ndarray
    _row: np.ndarray

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Returns the grey pixels (m, SIDE, SIDE) uint8 of m photos, given by their positions in `names`."""
        pixels = np.empty((len(rows), SIDE, SIDE), np.uint8)
        shards = self._shard[rows]
        for shard in np.unique(shards).tolist():
            some = shards == shard
            pixels[some] = self._shards[shard][self._row[rows[some]]]
        return pixels


def read_thumbnails(folder: Path, states: Mapping[str, State], *, accept_truncated: bool = False) -> Thumbnails:
    """Makes the thumbnails of photos, or reads those that are in the cache.

    Args:
        folder: the folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.
        states: maps the names of the photos, relative to `folder`, to the states of their files.
        accept_truncated: whether a JPEG that lacks its last bytes is read, with grey in place of what is missing.

    Raises:
        RemoteError: the storage of an address does not answer, or refuses.
    """
    cache = _Cache.of(folder, accept_truncated)
    known = cache.known()
    missing = [name for name, state in states.items() if known.get(name, (None,))[0] != state]
    left_out: dict[str, str] = {}
    if missing:
        with progress("thumbnails", len(missing)) as advance, ThreadPoolExecutor(photo_readers(folder)) as pool:
            for some in _portions(missing):
                found = list(pool.map(lambda name: _thumbnail(folder, name, accept_truncated), some))
                rows = {name: row for name, row in zip(some, found, strict=True) if not isinstance(row, str)}
                left_out |= {name: row for name, row in zip(some, found, strict=True) if isinstance(row, str)}
                cache.add(rows, {name: states[name] for name in rows})
                advance(len(some))
        cache.store()
    return cache.thumbnails([name for name in states if name not in left_out], left_out)


def _portions(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _PORTION):
        yield names[start : start + _PORTION]


@dataclass(frozen=True)
class _Row:
    pixels: np.ndarray
    size: tuple[int, int]
    colour: tuple[int, int, int]


def _thumbnail(folder: Path, name: str, accept_truncated: bool) -> _Row | str:
    """Reads a photo; returns the reason if it cannot be read."""

    def read(source: Source) -> tuple[tuple[int, int], np.ndarray]:
        size = photo_size(source, max_pixels=MAX_PIXELS)
        return size, read_photo(source, size=2 * SIDE, accept_truncated=accept_truncated)

    try:
        (height, width), pixels = photo_in(folder, name, read)
    except PhotoError as error:
        return error.reason
    red, green, blue = (round(float(value)) for value in pixels.mean(axis=(0, 1)))
    grey = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return _Row(np.array(grey), (width, height), (red, green, blue))


class _Cache:
    """The thumbnails of one folder of photos: shards on the disk, and rows that are not stored yet.

    Args:
        path: the folder of the cache, or None if nothing is to be kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._shards: list[np.ndarray] = []
        self._where: dict[str, tuple[State, int, int]] = {}
        self._facts: list[np.ndarray] = []
        self._new: dict[str, _Row] = {}
        self._states: dict[str, State] = {}
        self._stored = time.monotonic()
        for facts in sorted(path.glob("*.json")) if path else []:
            self._load(facts)

    @classmethod
    def of(cls, folder: Path, accept_truncated: bool) -> "_Cache":
        """Opens the cache of a folder of photos, and deletes those that were not used for a long time."""
        root = cache_folder()
        if root is None:
            return cls(None)
        key = f"{_LAYOUT} {SIDE} {accept_truncated} ".encode() + os.fsencode(
            address_of(folder) or os.path.realpath(folder)
        )
        path = root / "thumbnails" / hashlib.sha256(key).hexdigest()[:24]
        with suppress(OSError):
            path.mkdir(parents=True, exist_ok=True)
            os.utime(path)
            for other in path.parent.iterdir():
                if other.stat().st_mtime < time.time() - _KEPT:
                    shutil.rmtree(other, ignore_errors=True)
        return cls(path)

    def known(self) -> Mapping[str, tuple[State, int, int]]:
        """Maps the names of all thumbnails to the state of the photo's file, the shard and the row."""
        return self._where

    def add(self, rows: Mapping[str, _Row], states: Mapping[str, State]) -> None:
        """Adds thumbnails, and stores a shard when there are many or some time has passed."""
        self._new |= rows
        self._states |= states
        if len(self._new) >= _SHARD or time.monotonic() - self._stored > _STORED_EVERY:
            self.store()

    def store(self) -> None:
        """Stores the thumbnails that were added. A cache that cannot be written is not an error."""
        if not self._new:
            return
        names = list(self._new)
        pixels = np.stack([row.pixels for row in self._new.values()])
        facts = np.array([[*row.size, *row.colour] for row in self._new.values()], np.int64)
        states = [list(self._states[name]) for name in names]
        if self._path is not None:
            try:
                pixels = self._written(
                    self._path / f"{time.time_ns():020d}-{os.getpid()}", pixels, names, states, facts
                )
            except OSError as error:
                log.debug(f"{self._path} cannot be written, so that the next run reads each photo again: {error}")
        self._include(pixels, names, states, facts)
        self._new, self._states, self._stored = {}, {}, time.monotonic()

    def thumbnails(self, names: list[str], left_out: dict[str, str]) -> Thumbnails:
        """Returns the thumbnails of photos, all of which were added or known."""
        places = [self._where[name] for name in names]
        shard = np.array([place[1] for place in places], np.int64)
        row = np.array([place[2] for place in places], np.int64)
        facts = np.zeros((len(names), 5), np.int64)
        for number in np.unique(shard).tolist():
            facts[shard == number] = self._facts[number][row[shard == number]]
        return Thumbnails(names, facts[:, :2], facts[:, 2:], left_out, self._shards, shard, row)

    def _written(
        self, path: Path, pixels: np.ndarray, names: list[str], states: list[list[Any]], facts: np.ndarray
    ) -> np.ndarray:
        """Writes a shard, its pixels first, and returns them memory-mapped."""
        assert self._path is not None
        self._path.mkdir(parents=True, exist_ok=True)
        with atomic_path(path.with_suffix(".npy"), sync=False) as temporary, temporary.open("wb") as file:
            np.save(file, pixels)
        note = {"names": names, "states": states, "facts": facts.tolist()}
        with atomic_path(path.with_suffix(".json"), sync=False) as temporary:
            temporary.write_text(json.dumps(note), encoding="utf-8")
        return load_array(path.with_suffix(".npy"), mapped=True)

    def _load(self, path: Path) -> None:
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            pixels = load_array(path.with_suffix(".npy"), mapped=True)
            facts = np.array(note["facts"], np.int64).reshape(-1, 5)
            fits = pixels.shape == (len(note["names"]), SIDE, SIDE) and len(facts) == len(note["names"])
            if not fits or pixels.dtype != np.uint8 or len(note["states"]) != len(facts):
                raise FolderError("its arrays do not fit each other")
            self._include(pixels, note["names"], note["states"], facts)
        except (OSError, ValueError, FolderError, KeyError, TypeError, EOFError) as error:
            log.debug(f"{path} is damaged and its photos will be read again: {error}")
            for file in (path, path.with_suffix(".npy")):
                with suppress(OSError):
                    file.unlink()

    def _include(self, pixels: np.ndarray, names: list[str], states: list[list[Any]], facts: np.ndarray) -> None:
        number = len(self._shards)
        self._shards.append(pixels)
        self._facts.append(facts)
        for row, (name, state) in enumerate(zip(names, states, strict=True)):
            self._where[name] = ((state[0], state[1]), number, row)
