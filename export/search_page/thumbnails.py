"""Thumbnails of photos: JPEG files in memory and, optionally, in a folder, each with a limit on their bytes."""

import hashlib
import io
import logging
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path

from keras_retrieval.pipelines.files.machine import cores
from keras_retrieval.pipelines.photos.reader import MAX_PIXELS, read_photo

SIDES = (256, 512)
"""Longer sides of thumbnails in pixels."""

QUALITY = 82  # of the JPEG files
MEMORY_BYTES = 64 * 2**20
FOLDER_BYTES = 2 * 2**30
_CHECKSUM_BYTES = 8
DECODERS = cores()  # photos that are decoded at once, because each needs memory for its pixels

log = logging.getLogger("keras_retrieval")


class Thumbnails:
    """Makes thumbnails of photos and keeps them. Several threads may use it.

    A thumbnail is made anew when the size or the modification time of its photo differs.

    Args:
        folder: folder in which thumbnails are kept between runs; it is made if it does not exist. None to keep them in
            memory only.
        memory_bytes: maximum size of the thumbnails in memory.
        folder_bytes: maximum size of the thumbnails in the folder, above which the least recently used are deleted.
    """

    def __init__(
        self, folder: Path | None = None, memory_bytes: int = MEMORY_BYTES, folder_bytes: int = FOLDER_BYTES
    ) -> None:
        self._memory = ByteCache(memory_bytes)
        self._files = None if folder is None else FileCache(folder, folder_bytes)
        self._decoding = threading.Semaphore(DECODERS)
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def jpeg(self, path: Path, side: int, *, exif: bool = True, max_pixels: int = MAX_PIXELS) -> bytes:
        """Returns the thumbnail of a photo as the content of a JPEG file.

        Args:
            path: photo.
            side: longer side in pixels; photos are not enlarged.
            exif: whether the EXIF orientation is applied.
            max_pixels: largest number of pixels that the photo's header may declare.

        Raises:
            PhotoError: the photo cannot be read.
            OSError: the file does not exist.
        """
        facts = path.stat()
        key = (str(path), facts.st_mtime_ns, facts.st_size, side, exif)
        if (kept := self._memory.get(key)) is not None:
            return kept
        with self._once(key):
            if (kept := self._memory.get(key)) is None:
                kept = self._files.get(key) if self._files is not None else None
                if kept is None:
                    kept = self._made(path, side, exif, max_pixels)
                    if self._files is not None:
                        self._files.put(key, kept)
                self._memory.put(key, kept)
        return kept

    def full(self, path: Path, *, exif: bool = True, max_pixels: int = MAX_PIXELS) -> bytes:
        """Returns a photo of full size as the content of a JPEG file, which is not kept.

        Raises:
            PhotoError: the photo cannot be read.
        """
        return self._made(path, None, exif, max_pixels)

    def _made(self, path: Path, side: int | None, exif: bool, max_pixels: int) -> bytes:
        from PIL import Image

        with self._decoding:
            pixels = read_photo(path, size=side, exif=exif, max_pixels=max_pixels)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
        return file.getvalue()

    def _once(self, key: Hashable) -> "_Once":
        return _Once(key, self._making, self._lock)


class _Once:
    """Lets one thread at a time make the thumbnail of a key; others wait for it."""

    def __init__(self, key: Hashable, making: dict[Hashable, threading.Lock], lock: threading.Lock) -> None:
        self._key, self._making, self._lock = key, making, lock

    def __enter__(self) -> None:
        with self._lock:
            self._own = self._making.setdefault(self._key, threading.Lock())
        self._own.acquire()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._making.pop(self._key, None)
        self._own.release()


class ByteCache:
    """A thread-safe cache of byte strings that evicts the least recently used entries.

    Args:
        limit: maximum size of all entries in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes, self._lock = limit, 0, threading.Lock()
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable) -> bytes | None:
        """Returns the bytes that are cached under a key; None if there are none."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, data: bytes) -> None:
        """Caches bytes under a key, and evicts the least recently used entries if the limit is exceeded."""
        with self._lock:
            self._bytes += len(data) - len(self._kept.pop(key, b""))
            self._kept[key] = data
            while self._bytes > self._limit:
                self._bytes -= len(self._kept.popitem(last=False)[1])


class FileCache:
    """A cache of byte strings in the files of a folder; a file appears whole or not at all.

    A folder that cannot be written, as on a full disk, costs the cache and not the page.

    Args:
        folder: folder of the files.
        limit: maximum size of all files in bytes; above it, files are deleted down to nine tenths of it, those first
            that have not been read for longest.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit, self._lock = folder, limit, threading.Lock()
        self._bytes: int | None = None  # None until the files have been counted
        self._warned = False

    def get(self, key: Hashable) -> bytes | None:
        """Returns the bytes that are cached under a key; None if there are none."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        data, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        return data if data and checksum == _checksum(data) else None

    def put(self, key: Hashable, data: bytes) -> None:
        """Caches bytes under a key."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, data + _checksum(data))
        except OSError as error:
            if not self._warned:
                log.warning("thumbnails are not kept in %s: %s", self._folder, error)
            self._warned = True
            return
        with self._lock:
            if self._bytes is None:
                self._bytes = sum(size for _, size, _ in self._files())
            else:
                self._bytes += len(data) + _CHECKSUM_BYTES
            if self._bytes > self._limit:
                self._evict()

    def _path(self, key: Hashable) -> Path:
        digest = hashlib.blake2b(repr(key).encode(errors="backslashreplace"), digest_size=16).hexdigest()
        return self._folder / digest[:2] / f"{digest[2:]}.jpg"

    def _files(self) -> list[tuple[float, int, str]]:
        """Time of the last use, size and path of each file."""
        found = []
        with suppress(OSError):
            for folder in os.scandir(self._folder):
                if folder.is_dir(follow_symlinks=False):
                    for file in os.scandir(folder.path):
                        with suppress(OSError):
                            facts = file.stat(follow_symlinks=False)
                            found.append((facts.st_mtime, facts.st_size, file.path))
        return found

    def _evict(self) -> None:
        files = sorted(self._files())
        self._bytes = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._bytes <= self._limit * 0.9:
                break
            with suppress(OSError):
                Path(path).unlink()
                self._bytes -= size


def _checksum(data: bytes) -> bytes:
    """What follows the data in a file, so that a file that a power failure left empty or in part is made again."""
    return hashlib.blake2b(data, digest_size=_CHECKSUM_BYTES).digest()


def _write_whole(path: Path, data: bytes) -> None:
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(partial).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise
