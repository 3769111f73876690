"""Descriptors on disk in one of three forms, mapped, not read: float32, bfloat16 (half of that) or int8 (a quarter).

int8 is x = round(x / step) * step with a step for each dimension, the largest number in it over 127. What is stored is
what is scored: every product is that of a float32 query with the numbers that the form stands for.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from keras_retrieval.ranking.nearest import CHUNK

FORMS = {"float32": np.float32, "bfloat16": np.uint16, "int8": np.int8}
READ_BELOW = 2**26  # bytes


class StoredRows:
    """N rows of S numbers that `write_rows` wrote.

    Args:
        folder: with rows.npy and, for int8, steps.npy.
        form: a key of FORMS.
    """

    def __init__(self, folder: Path, form: str) -> None:
        place = folder / "rows.npy"
        # Few rows are read, as searches go through all of them. A plain view of others: numpy's memmap class is slow.
        mode: Literal["r"] | None = "r" if place.stat().st_size > READ_BELOW else None
        self._values = np.asarray(np.load(place, mmap_mode=mode, allow_pickle=False))
        self._steps = np.load(folder / "steps.npy", allow_pickle=False) if form == "int8" else None
        self.form, self.dimensions = form, self._values.shape[1]

    def __len__(self) -> int:
        return len(self._values)

    def take(self, ids: np.ndarray | slice) -> np.ndarray:
        """Rows by number as float32, shape of ids + (S,); a view of the disk for a slice of float32."""
        rows = _decode(self._values[ids])
        return rows if self._steps is None else rows * self._steps

    def blocks(self, ids: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Rows, all or those of these numbers, in pieces of a few thousand."""
        for start in range(0, len(self) if ids is None else len(ids), CHUNK):
            yield self.take(slice(start, start + CHUNK) if ids is None else ids[start : start + CHUNK])

    def products(self, queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Inner products of each query (Q, S) with rows of its own (Q, R), as (Q, R) float32."""
        if self._steps is not None:
            queries = queries * self._steps
        products = np.empty(ids.shape, np.float32)
        for start in range(0, len(ids), 16):  # so many rows stay in the cache
            part = slice(start, start + 16)
            np.matmul(_decode(self._values[ids[part]]), queries[part, :, None], out=products[part, :, None])
        return products


def write_rows(folder: Path, blocks: Iterable[np.ndarray], count: int, dimensions: int, form: str) -> None:
    """Writes rows.npy, and steps.npy for int8, piece by piece.

    Args:
        folder: that is there.
        blocks: the rows in pieces (n, S) float32, finite; int8 asks for them twice.
        count: N, of all pieces.
        dimensions: S.
        form: a key of FORMS.
    """
    steps = None
    if form == "int8":
        largest = np.full(dimensions, np.finfo(np.float32).tiny, np.float32)
        for block in blocks:
            np.maximum(largest, np.abs(block).max(axis=0, initial=0), out=largest)
        steps = largest / 127
        np.save(folder / "steps.npy", steps, allow_pickle=False)
    place = folder / "rows.npy"
    values = np.lib.format.open_memmap(place, mode="w+", dtype=FORMS[form], shape=(count, dimensions))
    start = 0
    for block in blocks:
        values[start : start + len(block)] = _encode(block, form, steps)
        start += len(block)
    values.flush()


def _encode(rows: np.ndarray, form: str, steps: np.ndarray | None) -> np.ndarray:
    if steps is not None:
        return np.rint(rows / steps).clip(-127, 127).astype(np.int8)
    if form == "bfloat16":
        bits = np.ascontiguousarray(rows, np.float32).view(np.uint32)
        # To the nearest, to even in the middle: the upper half of the bits after adding almost half of the lower.
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rows


def _decode(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)
