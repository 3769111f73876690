"""Access to the rows of a database: N descriptors of D dimensions, in one array (N, D) or in several arrays (n, D).

The arrays of a database in several arrays are called its shards. Rows are numbered over all shards, in order. Arrays
may be in memory or memory-mapped.
"""

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
    """A selection of n rows of an array, which reads rows and converts them to float32 only when it is indexed.

    The class supports `len`, the attribute `shape`, (n, D), and indexing with an integer, a slice or an array.

    Args:
        values: the array, (N, D), of any float dtype, in memory or memory-mapped.
        indexes: numbers of the selected rows in `values`, (n,) integers; row i of the selection is values[indexes[i]].
    """

    def __init__(self, values: np.ndarray, indexes: np.ndarray) -> None:
        self._values, self._indexes = values, indexes
        self.shape = (len(indexes), values.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._values[self._indexes[index]], np.float32)


def l2_normalize(rows: np.ndarray) -> np.ndarray:
    """Divides vectors by ||x|| + 1e-6, as in the networks of Radenovic et al. (TPAMI 2018).

    Args:
        rows: vectors along the last axis, (.., D), of a float dtype.

    Returns:
        The normalised vectors, in the shape and dtype of `rows`; a zero vector stays 0.
    """
    return rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + EPSILON)


def as_rows(rows: Any, name: str, dtype: Any = np.float32) -> np.ndarray:
    """Converts descriptors to a numpy array with two axes, without a copy if they already are such an array.

    Args:
        rows: descriptors, (n, D), as an array or nested lists.
        name: what to call the descriptors in the error message, such as "queries".
        dtype: dtype of the result; None keeps the dtype of `rows`.

    Returns:
        The array, (n, D).

    Raises:
        ArgumentError: `rows` does not have two axes.
    """
    rows = np.asarray(rows, dtype)
    if rows.ndim != 2:
        raise ArgumentError(f"{name} must have the shape (rows, dimensions), got {rows.shape}")
    return rows


def require_finite(rows: np.ndarray, name: str, first: int = 0) -> None:
    """Checks that no descriptor contains NaN or an infinite number.

    Args:
        rows: the descriptors to check, (n, D).
        name: what to call a row in the error message, such as "database row".
        first: number of the first of these rows in the error message.

    Raises:
        DescriptorError: a row contains NaN or an infinite number; the message contains the number of the first such
            row.
    """
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise DescriptorError(f"{name} {first + bad[0]} contains NaN or an infinite number: extract it again")


def count_rows(database: np.ndarray | Iterable[np.ndarray]) -> int:
    """Returns the number N of rows of a database.

    Args:
        database: an array (N, D), or an iterable of arrays (n, D); an iterator is consumed.
    """
    return sum(len(shard) for shard in _shards(database))


def blocks(
    database: np.ndarray | Iterable[np.ndarray], size: int, dtype: Any = np.float32
) -> Iterator[tuple[int, np.ndarray]]:
    """Iterates over the rows of a database in chunks.

    After each chunk of a memory-mapped array, the memory pages of the array are released, so that the resident memory
    of the process stays small. A chunk never contains rows of two arrays.

    Args:
        database: descriptors of the database, as an array (N, D) or as an iterable of arrays (n, D), which may open
            arrays only when they are needed.
        size: largest number of rows of a chunk, at least 1.
        dtype: dtype of the chunks.

    Yields:
        The number of the first row of the chunk, counted over all arrays, and the chunk, (size or fewer, D).

    Raises:
        ArgumentError: `size` is below 1, or an array does not have two axes or differs from the first array in D.
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
    """Selects rows of a database, which may consist of several arrays, by their numbers.

    Args:
        database: descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D).
        indexes: row numbers, integers in 0..N-1, in an array of any shape.
        dtype: dtype of the result.

    Returns:
        The rows, in an array with the shape of `indexes` followed by D.

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


def first_rows(counts: np.ndarray) -> np.ndarray:
    """Returns the first row of each of n groups of rows, (n,) int64, from the groups' numbers of rows, (n,)."""
    return np.cumsum(counts, dtype=np.int64) - counts


def ranges(first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Concatenates the integer ranges first[i], .., end[i] - 1, such as the rows of some groups.

    Args:
        first: the first integer of each range, (n,).
        end: the integer after the last of each range, (n,), at least `first`.

    Returns:
        All integers of the first range, then those of the second, and so on, as one array.
    """
    lengths = end - first
    return np.arange(lengths.sum()) + np.repeat(first - first_rows(lengths), lengths)


def _shards(database: np.ndarray | Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    return [database] if isinstance(database, np.ndarray) else database


def release(shard: np.ndarray) -> None:
    """Releases the memory pages of a memory-mapped array, which the system reads again from the file when needed.

    The function does nothing for arrays in memory and for writable mappings, because a private writable mapping would
    lose its changes.

    Args:
        shard: the array, or a view of it.
    """
    base: Any = shard
    while isinstance(base, np.ndarray):
        if getattr(base, "mode", "r") != "r":
            return
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
