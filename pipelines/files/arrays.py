"""Arrays in files: written by file writes only, because a write through a mapping to a full disk ends the process."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike

from keras_retrieval.errors import ArgumentError

from .space import allocate, naming_full_disk

_PAGE = 4096
_PARSES = 10  # of a header


class _ChecksWrites:
    """A file to which NumPy can write an array, and whose errors are those of the operating system.

    NumPy writes arrays to files of Python by C's fwrite, and its error for a short write is only "2048 requested and
    992 written".

    Args:
        file: the open file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, content: Any) -> int:
        return self._file.write(content)


def write_npy(file: IO[bytes], array: np.ndarray) -> None:
    """Writes an array into an open file, in the format .npy; errors are those of the operating system.

    Raises:
        OSError: the file cannot be written.
        ValueError: the array contains Python objects, which NumPy could write only as a pickle.
    """
    np.save(_ChecksWrites(file), array, allow_pickle=False)


def load_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Reads a .npy file.

    NumPy parses its header by `ast`, which in CPython up to 3.12.0 raises SystemError now and then if two threads
    parse at the same time (python/cpython#106905): the file is then read again.

    Args:
        path: the file.
        mapped: whether the array is mapped, for reading only, in place of being read into memory.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is damaged, or contains Python objects.
    """
    return _parsed(lambda: np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False))


def map_array(path: Path) -> np.ndarray:
    """Maps a .npy file for reading, as `load_array` does, but whose errors say what is wrong with its header.

    Raises:
        FileNotFoundError: the file does not exist.
        Exception: of many kinds, as NumPy raises for a damaged header.
    """
    return _parsed(lambda: np.lib.format.open_memmap(path, mode="r"))


def _parsed(read: Callable[[], np.ndarray]) -> np.ndarray:
    for _ in range(_PARSES - 1):
        with suppress(SystemError):
            return read()
    return read()


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array as a .npy file, which is not synced; `durable.write_array` writes one atomically.

    Args:
        path: the file to write; an existing file is replaced.
        array: an array of any data type except Python objects, which NumPy could write only as a pickle.

    Raises:
        DiskSpaceError: the disk is full.
        OSError: the file cannot be written.
        ValueError: the array contains Python objects.
    """
    with naming_full_disk(path, array.nbytes + _PAGE), path.open("wb") as file:
        write_npy(file, array)


def save_blocks(path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """Writes an array that need not fit into memory as a .npy file, block by block, after its space has been reserved.

    Args:
        path: the file to write; an existing file is replaced.
        blocks: the parts of the array along its first axis, in order; they are converted to `dtype`.
        shape: the shape of the whole array.
        dtype: the data type of the array.

    Raises:
        DiskSpaceError: the disk is full.
        OSError: the file cannot be written.
        ArgumentError: the blocks do not add up to the shape.
    """
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    with naming_full_disk(path, size + _PAGE), path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        start = file.tell()
        allocate(file.fileno(), path, start + size)
        for block in blocks:
            file.write(np.ascontiguousarray(block, kind).data)
        if file.tell() != start + size:
            raise ArgumentError(f"{path}: the blocks have {file.tell() - start:,} bytes, and the array {size:,}")


class FileRows:
    """Rows of an array in an open file: read through a read-only mapping, and written by file writes.

    Args:
        file: an open file, which may be longer afterwards.
        folder: the folder of the file, for messages.
        shape: number of rows, and values in a row.
        dtype: the data type of the values.

    Attributes:
        values: the rows, a read-only mapping of `shape`.

    Raises:
        DiskSpaceError: the disk has too little space for all rows.
    """

    def __init__(self, file: IO[bytes], folder: Path, shape: tuple[int, int], dtype: DTypeLike) -> None:
        self._file, self._folder, kind = file, folder, np.dtype(dtype)
        self._size = shape[1] * kind.itemsize
        allocate(file.fileno(), folder, shape[0] * self._size)
        if os.fstat(file.fileno()).st_size < shape[0] * self._size:
            os.truncate(file.fileno(), shape[0] * self._size)
        self.values = np.memmap(file, kind, "r", shape=shape)

    def write(self, numbers: np.ndarray, rows: np.ndarray) -> None:
        """Writes some rows, which `values` contains at once.

        Args:
            numbers: the numbers of the n rows.
            rows: their values, (n, D).

        Raises:
            DiskSpaceError: the disk is full.
        """
        content = np.ascontiguousarray(rows, self.values.dtype)
        with naming_full_disk(self._folder, content.nbytes):
            for number, row in zip(numbers.tolist(), content, strict=True):
                _write_all(self._file.fileno(), row.data, number * self._size)


def _write_all(descriptor: int, content: memoryview, place: int) -> None:
    content, done = content.cast("B"), 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], place + done)
