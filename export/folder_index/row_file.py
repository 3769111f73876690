"""Memory-mapped descriptors in one of three number types: float32, bfloat16 (half the size) or int8 (a quarter).

int8 stores round(x / step). Each dimension has its own step: the largest absolute value in this dimension divided by
127. Scores are computed from the stored values: each score is the inner product of a float32 query with a row that has
been converted back to float32.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.files.arrays import load_array, save_array, save_blocks

from keras_retrieval.ranking.nearest import CHUNK

from ..index_contract.index_settings import ROW_TYPES

_FILE_TYPES = dict(zip(ROW_TYPES, (np.float32, np.uint16, np.int8), strict=True))
_READ_BELOW = 2**26  # bytes; files of at most this size are read into memory
_PRODUCT = 2**19  # bytes of the rows in a matrix product, so that they stay in a core's cache


class StoredRows:
    """Reads the N stored descriptors of S dimensions that `write_rows` wrote.

    Args:
        folder: folder that contains rows.npy and, for int8, steps.npy.
        row_type: number type of the stored descriptors, one of `ROW_TYPES`.
    """

    def __init__(self, folder: Path, row_type: str) -> None:
        path = folder / "rows.npy"
        # Small files are read into memory. Larger ones are mapped, as a plain array because np.memmap indexes slowly.
        self._values = np.asarray(load_array(path, mapped=path.stat().st_size > _READ_BELOW))
        self._steps = load_array(folder / "steps.npy") if row_type == "int8" else None
        self.row_type, self.dimensions = row_type, self._values.shape[1]

    def __len__(self) -> int:
        return len(self._values)

    def take(self, ids: np.ndarray | slice) -> np.ndarray:
        """Reads stored descriptors by row number.

        Args:
            ids: row numbers of any shape, or a slice of rows.

        Returns:
            The descriptors, (..., S) float32; a view of the file if `ids` is a slice and the rows are stored as
            float32.
        """
        rows = _decode(self._values[ids])
        return rows if self._steps is None else rows * self._steps

    def blocks(self, ids: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yields stored descriptors as float32 in blocks of a few thousand rows.

        Args:
            ids: row numbers, (n,); None for all rows.
        """
        for start in range(0, len(self) if ids is None else len(ids), CHUNK):
            yield self.take(slice(start, start + CHUNK) if ids is None else ids[start : start + CHUNK])

    def products(self, queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Computes the inner products of each query with its own set of stored descriptors.

        Args:
            queries: queries, (Q, S) float32.
            ids: row numbers of the R descriptors for each query, (Q, R).

        Returns:
            The inner products, (Q, R) float32.
        """
        if self._steps is not None:
            queries = queries * self._steps
        products = np.empty(ids.shape, np.float32)
        step = max(1, _PRODUCT // max(1, 4 * ids.shape[1] * self.dimensions))
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            np.matmul(_decode(self._values[ids[part]]), queries[part, :, None], out=products[part, :, None])
        return products


def write_rows(folder: Path, blocks: Iterable[np.ndarray], count: int, dimensions: int, row_type: str) -> None:
    """Writes descriptors to rows.npy, block by block, and for int8 the steps to steps.npy.

    Args:
        folder: existing folder to write to.
        blocks: descriptors in blocks (n, S) of finite float32 numbers; iterated twice for int8.
        count: N, the number of descriptors in all blocks.
        dimensions: S, the number of dimensions of a descriptor.
        row_type: number type to store, one of `ROW_TYPES`.

    Raises:
        DiskSpaceError: the disk has no space for the rows.
    """
    steps = None
    if row_type == "int8":
        largest = np.full(dimensions, np.finfo(np.float32).tiny, np.float32)
        for block in blocks:
            np.maximum(largest, np.abs(block).max(axis=0, initial=0), out=largest)
        steps = largest / 127
        save_array(folder / "steps.npy", steps)
    encoded = (_encode(block, row_type, steps) for block in blocks)
    save_blocks(folder / "rows.npy", encoded, (count, dimensions), _FILE_TYPES[row_type])


def _encode(rows: np.ndarray, row_type: str, steps: np.ndarray | None) -> np.ndarray:
    if steps is not None:
        return np.rint(rows / steps).clip(-127, 127).astype(np.int8)
    if row_type == "bfloat16":
        bits = np.ascontiguousarray(rows, np.float32).view(np.uint32)
        # Round to nearest, ties to even: add almost half of the lower 16 bits' range, then keep the upper 16 bits.
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rows


def _decode(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)
