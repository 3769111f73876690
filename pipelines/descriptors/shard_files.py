"""The files of a shard of descriptors: .npy, or Parquet (extra `parquet`), which databases and data frames read.

A Parquet file has the columns `name` (text), `descriptor` (a list of D float32 or float16) and with crops `box` (a list
of 4 float32), a row for each descriptor.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import missing_extra, printable

from ..files.arrays import FileRows, map_array
from ..files.durable import FolderError, atomic_path, write_array
from ..files.space import DiskSpaceError

NPY, PARQUET = "npy", "parquet"
FORMATS = (NPY, PARQUET)
NUMBERS = ("float32", "float16")
EXTRA = "parquet"
_ROWS = 4096  # rows that are read at a time


@dataclass(frozen=True)
class ShardFormat:
    """How the rows of a shard are stored.

    Attributes:
        name: an entry of `FORMATS`.
        storage: type of the numbers, an entry of `NUMBERS`; float32 for .npy.
    """

    name: str = NPY
    storage: str = "float32"

    def write(
        self, folder: Path, number: int, rows: np.ndarray, names: Sequence[str], boxes: np.ndarray | None = None
    ) -> None:
        """Writes the rows of a shard atomically.

        Args:
            folder: the folder of the shards.
            number: the number of the shard.
            rows: the descriptors, (n, D) float32.
            names: the name of the photo of each row.
            boxes: with crops the box of each row, (n, 4) float32.

        Raises:
            DiskSpaceError: the disk is full.
            OSError: the file cannot be written.
            MissingExtraError: PyArrow is not installed.
        """
        if self.name == NPY:
            write_array(folder / f"descriptors-{number:05}.npy", rows)
            if boxes is not None:
                write_array(folder / f"boxes-{number:05}.npy", boxes)
            return
        arrow, parquet = _pyarrow()
        columns = {
            "name": arrow.array(names, arrow.string()),
            "descriptor": _lists(arrow, rows.astype(self.storage)),
        }
        columns |= {} if boxes is None else {"box": _lists(arrow, boxes.astype(np.float32))}
        path = folder / f"descriptors-{number:05}.parquet"
        with atomic_path(path, size=rows.nbytes) as temporary:
            # Numbers of descriptors hardly repeat, so that a dictionary and compression would only take time.
            parquet.write_table(
                arrow.table(columns), temporary, row_group_size=_ROWS, use_dictionary=False, compression="none"
            )


def sealed_shards(manifest: Mapping[str, Any]) -> list[str]:
    """Returns the names of the shards that a manifest lists, in order; [] if there are none."""
    return sorted(name for name in manifest["sha256"] if name.startswith("descriptors-"))


def shard_paths(folder: Path) -> list[Path]:
    """Returns the files of the shards of a folder in order, of either format; [] if there are none."""
    return sorted(folder.glob("descriptors-*.npy")) or sorted(folder.glob("descriptors-*.parquet"))


def read_rows(path: Path) -> np.ndarray:
    """Opens the rows of a shard, (n, D) float32.

    The rows of a Parquet file are unpacked into a temporary file without a name, so that they take no memory.

    Raises:
        FolderError: the file is damaged.
        MissingExtraError: PyArrow is not installed.
    """
    return _unpacked(path, "descriptor") if path.suffix == f".{PARQUET}" else _array(path)


def read_boxes(path: Path) -> np.ndarray:
    """Opens the boxes of the rows of a shard of crops, (n, 4) float32; raises the errors of `read_rows`."""
    if path.suffix == f".{PARQUET}":
        return _unpacked(path, "box")
    return _array(path.with_name(path.name.replace("descriptors-", "boxes-")))


def check_names(path: Path, names: Sequence[str], first: int = 0) -> None:
    """Checks that the rows of a shard are of the photos that names.txt says; .npy files do not say any.

    Args:
        path: the file of the shard.
        names: the name of each row by names.txt.
        first: the number of rows in the shards before, for the message.

    Raises:
        FolderError: a row of a Parquet file has another name, so that the rows or the names were changed.
        MissingExtraError: PyArrow is not installed.
    """
    if path.suffix != f".{PARQUET}":
        return
    row = 0
    with _opened(path) as source:
        for batch in source.iter_batches(_ROWS, columns=["name"]):
            for own in batch.column(0).to_pylist():
                if own != names[row]:
                    raise FolderError(
                        f"{path}, row {row + 1}: the photo is {printable(str(own))}, and {printable(names[row])} in "
                        f"line {first + row + 1} of names.txt: rows were reordered, extract again with --replace"
                    )
                row += 1


def _array(path: Path) -> np.ndarray:
    try:
        return map_array(path)
    except Exception as error:  # numpy raises many kinds of errors for a damaged header
        raise FolderError(f"{path} is not an array ({error}): extract again with --replace") from error


def _unpacked(path: Path, column: str) -> np.ndarray:
    with _opened(path) as source, tempfile.TemporaryFile() as file:
        count, width = source.metadata.num_rows, source.schema_arrow.field(column).type.list_size
        if not count:
            return np.zeros((0, width), np.float32)
        rows, done = FileRows(file, Path(tempfile.gettempdir()), (count, width), np.float32), 0
        for batch in source.iter_batches(_ROWS, columns=[column]):
            numbers = batch.column(0).flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
            rows.write(np.arange(done, done + len(numbers)), numbers)
            done += len(numbers)
        if done < count:
            raise FolderError(f"{path} has {done:,} of its {count:,} rows: extract again with --replace")
        return rows.values


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a Parquet file; raises FolderError for a damaged one."""
    _, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as source:
            yield source
    except (DiskSpaceError, FolderError):
        raise
    except Exception as error:  # PyArrow raises many kinds of errors for a damaged file
        raise FolderError(
            f"{path} is not a Parquet file of descriptors ({error}): extract again with --replace"
        ) from error


def _lists(arrow: Any, rows: np.ndarray) -> Any:
    return arrow.FixedSizeListArray.from_arrays(arrow.array(rows.reshape(-1)), rows.shape[1])


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("PyArrow", EXTRA, error) from error
    return pyarrow, pyarrow.parquet
