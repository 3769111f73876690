"""Rows of descriptors, (N, D): one array or several shards, in memory or memory-mapped."""

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

Database: TypeAlias = np.ndarray | Sequence[np.ndarray]
Advance: TypeAlias = Callable[[int], None]

EPSILON = 1e-6


class PickedRows:
    """Some rows of an array, read as float32 when they are asked for: the whole is never held as such.

    Args:
        values: (N, D) of any float type, perhaps memory-mapped.
        places: (n,) which of its rows, in order.
    """

    def __init__(self, values: np.ndarray, places: np.ndarray) -> None:
        self._values, self._places = values, places
        self.shape = (len(places), values.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._values[self._places[index]], np.float32)


def l2_normalize(rows: np.ndarray) -> np.ndarray:
    """x / (||x|| + 1e-6) on the last axis, as the published networks do; 0 for 0. Keeps the dtype."""
    return rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + EPSILON)


def as_rows(rows: Any, name: str, dtype: Any = np.float32) -> np.ndarray:
    """The rows as a (n, D) array of `dtype`, without a copy where they are one already.

    Args:
        rows: descriptors, (n, D).
        name: what an error calls them.
        dtype: the numbers to compute with.

    Raises:
        ValueError: not two axes.
    """
    rows = np.asarray(rows, dtype)
    if rows.ndim != 2:
        raise ValueError(f"{name} must have the shape (rows, dimensions), not {rows.shape}")
    return rows


def require_finite(rows: np.ndarray, name: str, first: int = 0) -> None:
    """Refuses NaN and infinite numbers.

    Args:
        rows: (n, D).
        name: what an error calls the row.
        first: the number of the first row, for the error.

    Raises:
        ValueError: names the first row that is not finite.
    """
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise ValueError(f"{name} {first + bad[0]} holds NaN or an infinite number: extract it again")


def count_rows(database: np.ndarray | Iterable[np.ndarray]) -> int:
    """The number of rows N, over all shards."""
    return sum(len(shard) for shard in _shards(database))


def blocks(
    database: np.ndarray | Iterable[np.ndarray], size: int, dtype: Any = np.float32
) -> Iterator[tuple[int, np.ndarray]]:
    """Reads a database from first to last row, in pieces that fit in memory.

    Pages of a memory-mapped shard are given back to the system after each piece, so that a process that reads a
    hundred gigabytes stays small. A piece is valid until the next one is asked for.

    Args:
        database: (N, D), or an iterable of shards (n, D), which may open each when it is asked for.
        size: the number of rows a piece has at most.
        dtype: the numbers to compute with.

    Yields:
        The number of the piece's first row, and the piece, (size or fewer, D).

    Raises:
        ValueError: a shard has not two axes, or not the width of the first; size is below 1.
    """
    if size < 1:
        raise ValueError(f"a piece of a database has at least 1 row, not {size}")
    first, width = 0, None
    for number, shard in enumerate(_shards(database)):
        if shard.ndim != 2 or shard.shape[1] != (width or shard.shape[1]):
            raise ValueError(f"shard {number} has the shape {shard.shape}, and (rows, {width or 'D'}) is needed")
        width = shard.shape[1]
        for start in range(0, len(shard), size):
            piece = np.asarray(shard[start : start + size], dtype)
            yield first, piece
            first += len(piece)
            del piece
            release(shard)


def gather(database: Database, indexes: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Rows by their numbers, across shards.

    Args:
        database: (N, D), or its shards in order.
        indexes: integers of any shape, 0..N-1.
        dtype: the numbers to compute with.

    Returns:
        Shape of `indexes` + (D,).

    Raises:
        ValueError: no integers, or an index outside of 0..N-1.
    """
    indexes = np.asarray(indexes)
    if indexes.dtype.kind not in "iu":
        raise ValueError(f"rows are picked by integers, not {indexes.dtype}")
    shards = list(_shards(database))
    ends = np.cumsum([len(shard) for shard in shards])
    if indexes.size and not 0 <= indexes.min() <= indexes.max() < ends[-1]:
        raise ValueError(f"rows {indexes.min()}..{indexes.max()} are asked of a database of {ends[-1]} rows")
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
    """Unloads the pages of a read-only mapping; a private, writable mapping would lose what was written."""
    base: Any = shard
    while isinstance(base, np.ndarray):
        if getattr(base, "mode", "r") != "r":
            return
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
