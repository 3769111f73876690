"""Files of column values, by which searches can be filtered: an integer code per photo, and the text of each code."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.files.durable import read_names, write_names

from ..index_contract.contract import Filter


class StoredColumns:
    """Reads the columns that `write_columns` wrote.

    Args:
        folder: folder of the segment.
        columns: names of the columns, in the order in which `write_columns` got them.
    """

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._codes = {
            column: np.load(folder / f"column-{number}.npy", allow_pickle=False)
            for number, column in enumerate(columns)
        }
        self._texts = {column: read_names(folder / f"column-{number}.txt") for number, column in enumerate(columns)}

    def take(self, ids: np.ndarray) -> dict[str, list[str]]:
        """Reads the column values of some photos.

        Args:
            ids: row numbers of the photos, (n,) int.

        Returns:
            A dict from the name of each column to its n values.
        """
        return {
            column: [self._texts[column][code] for code in codes[ids].tolist()] for column, codes in self._codes.items()
        }

    def matches(self, where: Filter) -> np.ndarray | bool:
        """Evaluates the column conditions of a filter for all N photos of the segment.

        Args:
            where: the filter; its condition on names is ignored.

        Returns:
            Whether each photo satisfies all conditions on columns, (N,) bool; True if there are no such conditions.
        """
        matching: np.ndarray | bool = True
        for column, values in where.columns.items():
            wanted = set(values)
            allowed = np.array([text in wanted for text in self._texts[column]], bool)
            matching = allowed[self._codes[column]] & matching
        return matching


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
        np.save(folder / f"column-{number}.npy", rows, allow_pickle=False)
