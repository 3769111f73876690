"""Photos decoded and resized once, kept as raw bytes: training reads each of them many times.

A photo takes 3 bytes a pixel: about 0.3 MB at 362 pixels (the 91,642 of retrieval-SfM-120k: 27 GB), 2.4 MB at 1024.
The folder holds photos-*.bin (one photo's rows of RGB behind the other's), names.txt, index.npy (shard, offset,
height and width of each), left_out.json (name -> reason) and manifest.json with the checksum of every file.
"""

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..files.durable import (
    FolderError,
    check_free,
    fingerprint,
    partial_of,
    read_manifest,
    read_names,
    seal,
    write_array,
    write_file,
    write_names,
)
from ..files.progress import progress
from .edges import edges_state
from .formats import photo_state
from .reader import PhotoError
from .reading import Reading, Shape

KIND, VERSION = "photo cache", 1
SHARD_BYTES = 2**26  # at most: what a killed run may lose, and what waits in memory
READ_AHEAD = 2  # shards in memory: one being written, one being read
PLAN = ".plan.json"


class PhotoSource(Protocol):
    """Whatever gives photos by name: a `PhotoCache`, or a `Reading`, which decodes the files each time."""

    def shape(self, name: str) -> Shape:
        """(height, width) of what `read` returns; PhotoError if it cannot be read."""

    def read(self, name: str) -> np.ndarray:
        """The photo's pixels, (height, width, 3) uint8; PhotoError if it cannot be read."""


class PhotoCache:
    """Photos of a folder that `build_cache` made; nothing but the index is held in memory.

    Args:
        folder: of the cache.
        verify: compare the checksum of every file, which reads them all; without it, their sizes only.

    Attributes:
        names: of all photos in it.
        left_out: name -> reason, of the photos that could not be read when it was built.
        manifest: what the folder says of itself.

    Raises:
        FolderError: the folder is no cache, of a newer layout, or one of its files is missing or has changed.
    """

    def __init__(self, folder: Path, verify: bool = False) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder, kind=KIND, version=VERSION, verify=verify)
        self.names = read_names(folder / "names.txt")
        self.left_out: dict[str, str] = json.loads((folder / "left_out.json").read_text(encoding="utf-8"))
        index = np.load(folder / "index.npy", allow_pickle=False)
        _check_sizes(folder, self.names, index)
        self._entries = dict(zip(self.names, map(tuple, index.tolist()), strict=True))

    def shape(self, name: str) -> Shape:
        """(height, width) of a photo.

        Raises:
            PhotoError: it could not be read when the cache was built.
            FolderError: the cache was built without it.
        """
        return self._entry(name)[2:]

    def read(self, name: str) -> np.ndarray:
        """A photo's pixels, (height, width, 3) uint8, a copy.

        Raises:
            PhotoError: it could not be read when the cache was built.
            FolderError: the cache was built without it.
            OSError: its shard is gone.
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


def build_cache(folder: Path, names: Sequence[str], reading: Reading, *, replace: bool = False) -> PhotoCache:
    """Reads photos into a cache, or opens the one that is there if it holds these photos, read in this way.

    A killed run goes on from its last finished shard. Photos that cannot be read are left out with the reason.

    Args:
        folder: to write; it appears whole.
        names: of the photos, each once.
        reading: how they are read; its size must be set.
        replace: a cache of other photos or options is made anew instead of refused.

    Returns:
        The cache, opened; what has just been written is not verified.

    Raises:
        ValueError: no size, or not one of the photos can be read.
        FolderError: the folder is in the way.
        OSError: the folder cannot be written.
    """
    if reading.size is None:
        raise ValueError("a cache needs a size: the longest side of its photos in pixels")
    options: dict[str, Any] = {"size": reading.size, "exif": reading.exif, "max_pixels": reading.max_pixels}
    options |= {"smallest": reading.smallest, "edges": edges_state(reading.edges)}
    print_of_run = fingerprint(options, [[name, *photo_state(reading.folder / name)] for name in names])
    if folder.exists() and _fits(folder, print_of_run, replace):
        return PhotoCache(folder)
    check_free(folder, kind=KIND, replace=replace)
    started = time.monotonic()
    partial = partial_of(folder)
    _begin(partial, print_of_run)
    _write_shards(partial, names, reading, 3 * reading.longest() ** 2)
    facts = _collect(partial) | {"fingerprint": print_of_run, "photos": str(reading.folder.resolve()), **options}
    seal(partial, folder, kind=KIND, version=VERSION, replace=replace, **facts)
    _report(folder, facts, time.monotonic() - started)
    return PhotoCache(folder)


def _fits(folder: Path, print_of_run: str, replace: bool) -> bool:
    """Whether the folder is the cache that is asked for; an error where it is another and may not be replaced."""
    try:
        if read_manifest(folder, kind=KIND, version=VERSION).get("fingerprint") == print_of_run:
            return True
    except FolderError:
        if not replace:
            raise
    if not replace:
        raise FolderError(
            f"{folder} holds other photos, or the same read otherwise: replace it, or name another folder"
        )
    return False


def _begin(partial: Path, print_of_run: str) -> None:
    """Keeps what a killed run with the same photos and options has done, or begins anew."""
    path = partial / PLAN
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) == print_of_run:
            return
        print(f"{partial} was left by a run with other photos or options and is begun anew")
        shutil.rmtree(partial)
    elif partial.exists() and any(partial.iterdir()):
        raise FolderError(f"{partial} is in the way, and no unfinished cache: rename or remove it")
    partial.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(print_of_run))


def _write_shards(partial: Path, names: Sequence[str], reading: Reading, photo_bytes: int) -> None:
    """Makes the shards that are not done; threads read one while another is written."""
    count = max(1, SHARD_BYTES // photo_bytes)
    shards = enumerate(names[start : start + count] for start in range(0, len(names), count))
    todo = [(number, some) for number, some in shards if not _note(partial, number).exists()]
    pending: deque[tuple[int, dict[str, Future[np.ndarray]]]] = deque()
    upcoming, total = iter(todo), sum(len(some) for _, some in todo)
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("photo cache", total) as advance:
        while True:
            for number, some in islice(upcoming, READ_AHEAD - len(pending)):
                pending.append((number, {name: pool.submit(reading.read, name) for name in some}))
            if not pending:
                return
            _write_shard(partial, *pending.popleft(), advance)


def _write_shard(
    partial: Path, number: int, batch: dict[str, Future[np.ndarray]], advance: Callable[[int], None]
) -> None:
    """Writes one shard; its note, written last, says that it is done."""
    pixels: dict[str, np.ndarray] = {}
    left_out: dict[str, str] = {}
    for name, future in batch.items():
        try:
            pixels[name] = np.ascontiguousarray(future.result())
        except PhotoError as error:
            left_out[name] = error.reason
        advance(1)
    if pixels:
        write_file(_shard(partial, number), b"".join(photo.data for photo in pixels.values()))
    shapes = [photo.shape[:2] for photo in pixels.values()]
    write_file(_note(partial, number), json.dumps({"names": list(pixels), "shapes": shapes, "left_out": left_out}))


def _shard(folder: Path, number: int) -> Path:
    return folder / f"photos-{number:05}.bin"


def _note(folder: Path, number: int) -> Path:
    return folder / f".shard-{number:05}.json"


def _collect(partial: Path) -> dict[str, Any]:
    """Joins the shards' notes to names.txt, index.npy and left_out.json; returns the counts."""
    names: list[str] = []
    left_out: dict[str, str] = {}
    rows: list[tuple[int, int, int, int]] = []
    for number, note in enumerate(sorted(partial.glob(".shard-*.json"))):
        content = json.loads(note.read_text(encoding="utf-8"))
        names += content["names"]
        left_out |= content["left_out"]
        offset = 0
        for height, width in content["shapes"]:
            rows.append((number, offset, height, width))
            offset += 3 * height * width
    if not names:
        shutil.rmtree(partial)
        first = next(iter(left_out.items()), ("", "no photo is named"))
        raise ValueError(f"none of the {len(left_out)} photos can be read; the first: {': '.join(first)}")
    index = np.array(rows, np.int64)
    write_names(partial / "names.txt", names)
    write_array(partial / "index.npy", index)
    write_file(partial / "left_out.json", json.dumps(left_out, indent=1, ensure_ascii=False))
    return {"count": len(names), "left_out": len(left_out), "bytes": int(_bytes(index).sum())}


def _bytes(index: np.ndarray) -> np.ndarray:
    return 3 * index[:, 2] * index[:, 3]


def _check_sizes(folder: Path, names: list[str], index: np.ndarray) -> None:
    if index.shape != (len(names), 4):
        raise FolderError(f"{folder} names {len(names)} photos and has an index {index.shape}: build it again")
    ends = index[:, 1] + _bytes(index)
    for number in np.unique(index[:, 0]):
        path, end = _shard(folder, number), ends[index[:, 0] == number].max()
        if path.stat().st_size != end:
            raise FolderError(f"{path} has {path.stat().st_size:,} bytes instead of {end:,}: build the cache again")


def _report(folder: Path, facts: dict[str, Any], seconds: float) -> None:
    megabytes = facts["bytes"] / 1e6
    print(
        f"{folder}: {facts['count']:,} photos, {megabytes:,.0f} MB ({megabytes / facts['count']:.2f} MB each) "
        f"in {seconds:.0f} s"
    )
    if facts["left_out"]:
        print(f"left out: {facts['left_out']}, with reasons in {folder / 'left_out.json'}")
