"""Rows of descriptors (N, D), as one array or several shards, in memory or memory-mapped."""

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..errors import ArgumentError, RetrievalError

Database: TypeAlias = np.ndarray | Sequence[np.ndarray]
Advance: TypeAlias = Callable[[int], None]

EPSILON = 1e-6


class DescriptorError(RetrievalError, ValueError):
    """A descriptor contains NaN or an infinite number."""


class PickedRows:
    """A selection of rows of an array that converts rows to float32 when they are read.

    Args:
        values: the array, (N, D), of any float type, in memory or memory-mapped.
        indexes: row numbers of the selected rows, (n,), in order.
    """

    def __init__(self, values: np.ndarray, indexes: np.ndarray) -> None:
        self._values, self._indexes = values, indexes
        self.shape = (len(indexes), values.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._values[self._indexes[index]], np.float32)


def l2_normalize(rows: np.ndarray) -> np.ndarray:
    """Divides vectors along the last axis by ||x|| + 1e-6, as published; a zero vector stays 0. Keeps the dtype."""
    return rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + EPSILON)


def as_rows(rows: Any, name: str, dtype: Any = np.float32) -> np.ndarray:
    """Converts descriptors to an array (n, D) of `dtype`, without a copy if they already are an array of that dtype.

    Args:
        rows: descriptors, (n, D).
        name: name of the rows in error messages.
        dtype: dtype of the result; None keeps the dtype.

    Raises:
        ArgumentError: the rows do not have two axes.
    """
    rows = np.asarray(rows, dtype)
    if rows.ndim != 2:
        raise ArgumentError(f"{name} must have the shape (rows, dimensions), got {rows.shape}")
    return rows


def require_finite(rows: np.ndarray, name: str, first: int = 0) -> None:
    """Checks that no row contains NaN or an infinite number.

    Args:
        rows: the rows to check, (n, D).
        name: name of a row in error messages.
        first: number of the first row in error messages.

    Raises:
        DescriptorError: a row is not finite; the message names the first one.
    """
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise DescriptorError(f"{name} {first + bad[0]} contains NaN or an infinite number: extract it again")


def count_rows(database: np.ndarray | Iterable[np.ndarray]) -> int:
    """The number of rows N, over all shards."""
    return sum(len(shard) for shard in _shards(database))


def blocks(
    database: np.ndarray | Iterable[np.ndarray], size: int, dtype: Any = np.float32
) -> Iterator[tuple[int, np.ndarray]]:
    """Iterates over the rows of a database in chunks.

    The pages of a memory-mapped shard are released after each chunk, so that the resident memory of the process stays
    small. A chunk is valid until the next one is requested.

    Args:
        database: descriptors of the database, (N, D), or an iterable of shards (n, D), which may open shards lazily.
        size: largest number of rows of a chunk.
        dtype: dtype of the chunks.

    Yields:
        The number of the first row of the chunk, and the chunk, (size or fewer, D).

    Raises:
        ArgumentError: `size` is below 1, or a shard does not have two axes or the width of the first shard.
    """
    if size < 1:
        raise ArgumentError(f"size of the chunks must be at least 1, got {size}")
    first, width = 0, None
    for number, shard in enumerate(_shards(database)):
        if shard.ndim != 2 or shard.shape[1] != (width or shard.shape[1]):
            raise ArgumentError(f"shard {number} must have the shape (rows, {width or 'D'}), got {shard.shape}")
        width = shard.shape[1]
        for start in range(0, len(shard), size):
            piece = np.asarray(shard[start : start + size], dtype)
            yield first, piece
            first += len(piece)
            del piece
            release(shard)


def gather(database: Database, indexes: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Selects rows by index, across shards.

    Args:
        database: descriptors of the database, (N, D), or its shards in order.
        indexes: integers in 0..N-1, of any shape.
        dtype: dtype of the result.

    Returns:
        The rows; their shape is that of `indexes` followed by D.

    Raises:
        ArgumentError: `indexes` are not integers, or an index is out of range.
    """
    indexes = np.asarray(indexes)
    if indexes.dtype.kind not in "iu":
        raise ArgumentError(f"indexes of rows must be integers, got {indexes.dtype}")
    shards = list(_shards(database))
    ends = np.cumsum([len(shard) for shard in shards])
    if indexes.size and not 0 <= indexes.min() <= indexes.max() < ends[-1]:
        raise ArgumentError(f"indexes of rows must be in 0..{ends[-1] - 1}, got {indexes.min()}..{indexes.max()}")
    if len(shards) == 1:
        return np.asarray(shards[0][indexes], dtype)
    flat = indexes.ravel()
    order = np.argsort(flat, kind="stable")
    cuts = np.searchsorted(flat[order], ends)
    rows = np.empty((len(flat), shards[0].shape[1]), dtype)
    for shard, end, start, stop in zip(shards, ends, [0, *cuts[:-1]], cuts, strict=True):
        rows[order[start:stop]] = shard[flat[order[start:stop]] - (end - len(shard))]
    return rows.reshape(*indexes.shape, rows.shape[1])


def _shards(database: np.ndarray | Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    return [database] if isinstance(database, np.ndarray) else database


def release(shard: np.ndarray) -> None:
    """Releases the pages of a read-only memory mapping; a writable private mapping would lose its changes."""
    base: Any = shard
    while isinstance(base, np.ndarray):
        if getattr(base, "mode", "r") != "r":
            return
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
