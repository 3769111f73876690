"""The photo cache: a folder of decoded and resized photos as raw bytes, because training reads each photo many times.

A photo takes 3 bytes per pixel: about 0.3 MB if its longest side is 362 pixels (27 GB for the 91,642 photos of
retrieval-SfM-120k), and about 2.4 MB at 1024 pixels. The folder contains the shards photos-*.bin (the RGB pixels of one
photo after another, row by row), names.txt, index.npy (shard number, byte offset, height and width of each photo),
left_out.json (maps each photo that could not be read to the reason) and manifest.json with the checksum of every file.
The photos themselves may be at an address, from which each is then read once.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..engines.engine import run_units
from ..engines.work import Engine, Worker
from ..files.arrays import load_array
from ..files.durable import (
    FolderError,
    check_free,
    encoded_states,
    fingerprint,
    read_manifest,
    read_names,
    write_array,
    write_file,
)
from ..files.remote import place_text
from ..files.shards import LEFT_OUT, ShardedFolder, read_left_out
from .edges import edges_state
from .formats import PhotoFolderError
from .reader import PhotoError
from .reading import Reading, Shape
from .remote_photos import photo_states

log = logging.getLogger("keras_retrieval")

KIND, VERSION = "photo cache", 1
SHARD_BYTES = 2**26  # largest size of a shard; a killed run loses at most one unfinished shard


class PhotoSource(Protocol):
    """Interface for reading photos by name.

    Implemented by :class:`PhotoCache` and by :class:`~keras_retrieval.pipelines.photos.reading.Reading`, which decodes
    the photo's file at each call.
    """

    def shape(self, name: str) -> Shape:
        """Returns the (height, width) in pixels of the array that `read` returns.

        Raises:
            PhotoError: the photo cannot be read.
        """

    def read(self, name: str) -> np.ndarray:
        """Reads a photo as RGB pixels, (height, width, 3) uint8.

        Raises:
            PhotoError: the photo cannot be read.
        """


class Sharing(Protocol):
    """Interface of the processes that write the shards of a folder together, which all of them share."""

    @property
    def index(self) -> int:
        """The number of this process, from 0. The process 0 makes the folder."""

    @property
    def count(self) -> int:
        """The number of processes."""

    def wait(self) -> None:
        """Waits until all processes have called this method."""


def place_among(sharing: Sharing | None) -> tuple[int, int, Callable[[], None]]:
    """Returns the number of this process, the number of processes, and the function that waits for all of them."""
    return (0, 1, lambda: None) if sharing is None else (sharing.index, sharing.count, sharing.wait)


class PhotoCache:
    """Reads photos from a folder that :func:`build_cache` wrote; keeps only names and positions of photos in memory.

    Args:
        folder: the folder of the cache.
        verify: whether to read every file and compare its checksum with the manifest. Otherwise only the sizes of the
            shards are checked.

    Attributes:
        folder: the folder of the cache.
        names: the names of all photos in the cache.
        left_out: maps the name of each photo that could not be read when the cache was built to the reason.
        manifest: the content of the folder's manifest.json.

    Raises:
        FolderError: the folder is not a photo cache, has a newer layout, or a file is missing or has changed.
    """

    def __init__(self, folder: Path, verify: bool = False) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder, kind=KIND, version=VERSION, verify=verify)
        self.names = read_names(folder / "names.txt")
        self.left_out = read_left_out(folder)
        index = load_array(folder / "index.npy")
        _check_sizes(folder, self.names, index)
        self._entries = dict(zip(self.names, map(tuple, index.tolist()), strict=True))

    def shape(self, name: str) -> Shape:
        """Returns the (height, width) of a photo in pixels.

        Args:
            name: the name of the photo, relative to the folder of photos from which the cache was built.

        Raises:
            PhotoError: the photo could not be read when the cache was built.
            FolderError: the photo was not among the photos from which the cache was built.
        """
        return self._entry(name)[2:]

    def read(self, name: str) -> np.ndarray:
        """Reads a photo as RGB pixels, (height, width, 3) uint8.

        Args:
            name: the name of the photo, relative to the folder of photos from which the cache was built.

        Raises:
            PhotoError: the photo could not be read when the cache was built.
            FolderError: the photo was not among the photos from which the cache was built, or the shard that contains
                the photo has become shorter.
            OSError: the shard that contains the photo cannot be read.
        """
        shard, offset, height, width = self._entry(name)
        path = _shard(self.folder, shard)
        pixels = np.fromfile(path, np.uint8, 3 * height * width, offset=offset)
        if len(pixels) != 3 * height * width:
            raise FolderError(f"{path} has become shorter: build the cache again")
        return pixels.reshape(height, width, 3)

    def _entry(self, name: str) -> Any:
        if name in self.left_out:
            raise PhotoError(name, self.left_out[name])
        if name not in self._entries:
            raise FolderError(f"{self.folder} was built without {name}: build a cache of these photos")
        return self._entries[name]


def build_cache(
    folder: Path,
    names: Sequence[str],
    reading: Reading,
    *,
    replace: bool = False,
    engine: Engine | None = None,
    sharing: Sharing | None = None,
) -> PhotoCache:
    """Writes a photo cache, or opens an existing cache of the same photos and options.

    A killed run is continued after its last finished shard. Photos that cannot be read are left out and listed in
    left_out.json.

    Args:
        folder: the folder to write, which appears under this name only when it is complete.
        names: the names of the photos relative to `reading.folder`, without duplicates.
        reading: the folder of the photos and the options for reading them; `reading.size` must not be None.
        replace: whether an existing cache of other photos or options is replaced. Otherwise such a cache is an error.
        engine: where the work is done; None for this process.
        sharing: the processes that build the cache together, each of which reads its share of the photos; None for
            this process alone. All must call this function with the same arguments.

    Returns:
        The opened cache.

    Raises:
        ArgumentError: `reading.size` is None.
        PhotoFolderError: no photo can be read.
        RemoteError: the storage of photos at an address does not answer, or refuses.
        FolderError: `folder` exists, is not a cache of the same photos and options, and may not be replaced.
        OSError: the folder cannot be written.
    """
    if reading.size is None:
        raise ArgumentError("a photo cache needs a reading with a size, the longest side of its photos in pixels")
    options: dict[str, Any] = {"size": reading.size, "exif": reading.exif, "max_pixels": reading.max_pixels}
    options |= {"smallest": reading.smallest, "edges": edges_state(reading.edges)}
    options |= {"accept_truncated": True} if reading.accept_truncated else {}
    states = encoded_states(names, photo_states(reading.folder, names))
    sharded = ShardedFolder(folder, KIND, VERSION, fingerprint(options, states))
    if sharded.exists(replace=replace, fix="name another folder, or remove it"):
        return PhotoCache(folder)
    check_free(folder, kind=KIND, replace=replace)
    started = time.monotonic()
    index, count, wait = place_among(sharing)
    photos = max(1, min(SHARD_BYTES // (3 * reading.longest() ** 2), -(-len(names) // count)))
    if index:
        wait()  # until the folder is made
    photos = sharded.start(lambda: photos, _photos_of_a_shard)
    if not index:
        wait()
    todo = sharded.unfinished([names[start : start + photos] for start in range(0, len(names), photos)])
    todo = {number: some for number, some in todo.items() if number % count == index}
    run_units(CacheJob(sharded, reading), todo, engine=engine or Engine(), label="photo cache")
    wait()
    if not index:
        facts = _join(sharded) | {"photos": place_text(reading.folder), **options}
        sharded.seal(replace=replace, **facts)
        _report(folder, facts, time.monotonic() - started)
    wait()
    return PhotoCache(folder)


def _photos_of_a_shard(plan: Any) -> int:
    if not isinstance(plan, int) or plan < 1:
        raise FolderError(f"{plan!r} is not a number of photos")
    return plan


@dataclass(frozen=True)
class CacheJob:
    """What a worker needs to write shards of a photo cache.

    Attributes:
        sharded: the folder.
        reading: how photos are read.
    """

    sharded: ShardedFolder
    reading: Reading

    def open(self) -> Worker:
        """Returns the worker, which needs no preparation."""
        return self._write

    def _write(self, number: int, names: Sequence[str], advance: Callable[[int], None]) -> None:
        pixels: dict[str, np.ndarray] = {}
        left_out: dict[str, str] = {}
        with ThreadPoolExecutor(self.reading.readers) as pool:
            reading = {name: pool.submit(self.reading.read, name) for name in names}
            for name, future in reading.items():
                try:
                    pixels[name] = np.ascontiguousarray(future.result())
                except PhotoError as error:
                    left_out[name] = error.reason
                advance(1)
        with self.sharded.commit(number) as unwritten:
            if unwritten:
                if pixels:
                    content = b"".join(photo.data for photo in pixels.values())
                    write_file(_shard(self.sharded.partial, number), content)
                shapes = [photo.shape[:2] for photo in pixels.values()]
                self.sharded.finish(number, list(pixels), left_out, shapes=shapes)


def _shard(folder: Path, number: int) -> Path:
    return folder / f"photos-{number:05}.bin"


def _join(sharded: ShardedFolder) -> dict[str, Any]:
    """Writes names.txt, left_out.json and index.npy; returns the manifest's counts of photos and bytes."""
    names, left_out, notes = sharded.join({})
    if not names:
        sharded.discard()
        first = next(iter(left_out.items()), ("", "no photo is named"))
        raise PhotoFolderError(f"none of the {len(left_out)} photos can be read; the first: {': '.join(first)}")
    rows: list[tuple[int, int, int, int]] = []
    for number, note in enumerate(notes):
        offset = 0
        for height, width in note["shapes"]:
            rows.append((number, offset, height, width))
            offset += 3 * height * width
    index = np.array(rows, np.int64)
    write_array(sharded.partial / "index.npy", index)
    return {"count": len(names), "left_out": len(left_out), "bytes": int(_bytes(index).sum())}


def _bytes(index: np.ndarray) -> np.ndarray:
    return 3 * index[:, 2] * index[:, 3]


def _check_sizes(folder: Path, names: list[str], index: np.ndarray) -> None:
    if index.shape != (len(names), 4):
        raise FolderError(f"{folder} has {len(names)} names and an index of shape {index.shape}: build the cache again")
    ends = index[:, 1] + _bytes(index)
    for number in np.unique(index[:, 0]):
        path, end = _shard(folder, number), ends[index[:, 0] == number].max()
        if path.stat().st_size != end:
            raise FolderError(f"{path} has {path.stat().st_size:,} bytes instead of {end:,}: build the cache again")


def _report(folder: Path, facts: dict[str, Any], seconds: float) -> None:
    megabytes = facts["bytes"] / 1e6
    log.info(
        f"{folder}: {facts['count']:,} photos, {megabytes:,.0f} MB ({megabytes / facts['count']:.2f} MB each) "
        f"in {seconds:.0f} s"
    )
    if facts["left_out"]:
        log.warning(f"left out: {facts['left_out']}, with reasons in {folder / LEFT_OUT}")
