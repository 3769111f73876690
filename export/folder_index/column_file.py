"""Column values of photos in files and in memory: an integer code per photo, and the text of each code."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.files.arrays import load_array, save_array
from keras_retrieval.pipelines.files.durable import read_names, write_names

from ..index_contract.column_types import TEXT
from ..index_contract.conditions import ColumnValues, Condition


class StoredColumns:
    """Columns of photos: of each the distinct values, and the number of each photo's value. Immutable.

    Args:
        columns: the numbers of the photos' values, (N,) int, and the distinct values, by column name.
    """

    def __init__(self, columns: Mapping[str, tuple[np.ndarray, ColumnValues]]) -> None:
        self._columns = dict(columns)

    def take(self, ids: np.ndarray) -> dict[str, list[str]]:
        """Reads the column values of some photos.

        Args:
            ids: row numbers of the photos, (n,) int.

        Returns:
            A dict from the name of each column to its n values.
        """
        return {
            column: [values.texts[code] for code in codes[ids].tolist()]
            for column, (codes, values) in self._columns.items()
        }

    def matches(self, condition: Condition) -> np.ndarray:
        """Evaluates a condition on one of the columns for all N photos, (N,) bool."""
        codes, values = self._columns[condition.column]
        return condition.matches(values)[codes]

    def with_columns(self, types: Mapping[str, str], count: int) -> "StoredColumns":
        """Returns these columns and further ones, which are empty for all photos.

        Args:
            types: types of the further columns by name.
            count: N, the number of photos.
        """
        empty = {column: (np.zeros(count, np.int32), ColumnValues(kind, [""])) for column, kind in types.items()}
        return StoredColumns(self._columns | empty)

    def replaced(self, ids: np.ndarray, columns: Mapping[str, Sequence[str]]) -> "StoredColumns":
        """Returns columns in which some photos have other values.

        Args:
            ids: row numbers of the photos, (n,) int.
            columns: n values for some of the columns.
        """
        changed = dict(self._columns)
        for column, texts in columns.items():
            codes, values = changed[column]
            numbers = {text: number for number, text in enumerate(values.texts)}
            codes = codes.copy()
            codes[ids] = [numbers.setdefault(text, len(numbers)) for text in texts]
            changed[column] = codes, ColumnValues(values.kind, list(numbers))
        return StoredColumns(changed)


def read_columns(folder: Path, columns: Sequence[str], types: Mapping[str, str]) -> StoredColumns:
    """Reads the columns that `write_columns` wrote.

    Args:
        folder: folder of the segment.
        columns: names of the columns, in the order in which `write_columns` got them.
        types: the types of columns; those that it lacks are texts.
    """
    found = {}
    for number, column in enumerate(columns):
        codes = load_array(folder / f"column-{number}.npy")
        texts = read_names(folder / f"column-{number}.txt")
        found[column] = codes, ColumnValues(types.get(column, TEXT), texts)
    return StoredColumns(found)


def write_columns(folder: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """Writes the column values of photos.

    For column number i, column-i.txt contains the distinct values, one per line, and column-i.npy the code of each
    photo (int32), which is the line number of its value, counted from 0.

    Args:
        folder: folder of the segment.
        columns: one value per photo, by column name.
    """
    for number, texts in enumerate(columns.values()):
        codes = {text: code for code, text in enumerate(Counter(texts))}
        write_names(folder / f"column-{number}.txt", list(codes))
        rows = np.fromiter((codes[text] for text in texts), np.int32, len(texts))
        save_array(folder / f"column-{number}.npy", rows)
