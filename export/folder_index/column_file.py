"""Column values of photos on disk, which filter searches: one code per photo, and the distinct values as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.files.durable import read_names, write_names

from ..index_contract.contract import Filter


class StoredColumns:
    """Reads the columns that `write_columns` wrote.

    Args:
        folder: the folder of the segment.
        columns: names of the columns, in the order in which they were written.
    """

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._codes = {
            column: np.load(folder / f"column-{number}.npy", allow_pickle=False)
            for number, column in enumerate(columns)
        }
        self._texts = {column: read_names(folder / f"column-{number}.txt") for number, column in enumerate(columns)}

    def take(self, ids: np.ndarray) -> dict[str, list[str]]:
        """Maps each column to the values of the rows with these numbers."""
        return {
            column: [self._texts[column][code] for code in codes[ids].tolist()] for column, codes in self._codes.items()
        }

    def matches(self, where: Filter) -> np.ndarray | bool:
        """Returns whether each row satisfies the conditions on columns, (N,) bool; True if there are no conditions."""
        matching: np.ndarray | bool = True
        for column, values in where.columns.items():
            wanted = set(values)
            allowed = np.array([text in wanted for text in self._texts[column]], bool)
            matching = allowed[self._codes[column]] & matching
        return matching


def write_columns(folder: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """Writes column-N.txt with the distinct values of column N, and column-N.npy with the code of each photo."""
    for number, texts in enumerate(columns.values()):
        codes = {text: code for code, text in enumerate(Counter(texts))}
        write_names(folder / f"column-{number}.txt", list(codes))
        rows = np.fromiter((codes[text] for text in texts), np.int32, len(texts))
        np.save(folder / f"column-{number}.npy", rows, allow_pickle=False)
