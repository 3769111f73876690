"""What is known of photos besides their descriptors: columns of texts, to search among some photos only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.files.durable import read_names, write_names

from ..index_contract.contract import Filter


class StoredColumns:
    """Columns on disk: of each a number per photo and the texts that the numbers stand for.

    Args:
        folder: where `write_columns` wrote.
        columns: their names, in the order they were written in.
    """

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._codes = {
            column: np.load(folder / f"column-{number}.npy", allow_pickle=False)
            for number, column in enumerate(columns)
        }
        self._texts = {column: read_names(folder / f"column-{number}.txt") for number, column in enumerate(columns)}

    def take(self, ids: np.ndarray) -> dict[str, list[str]]:
        """The texts of these rows."""
        return {
            column: [self._texts[column][code] for code in codes[ids].tolist()] for column, codes in self._codes.items()
        }

    def matches(self, where: Filter) -> np.ndarray | bool:
        """Which rows pass the conditions on columns: (N,) bool, or True for all."""
        found: np.ndarray | bool = True
        for column, values in where.columns.items():
            wanted = set(values)
            right = np.array([text in wanted for text in self._texts[column]], bool)
            found = right[self._codes[column]] & found
        return found


def write_columns(folder: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """Writes columns; `StoredColumns` reads them."""
    for number, texts in enumerate(columns.values()):
        codes = {text: code for code, text in enumerate(Counter(texts))}
        write_names(folder / f"column-{number}.txt", list(codes))
        rows = np.fromiter((codes[text] for text in texts), np.int32, len(texts))
        np.save(folder / f"column-{number}.npy", rows, allow_pickle=False)
