"""What is known of photos besides their descriptors: columns of texts, to search among some photos only."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.folders import read_names, write_names

from .neighbour_index import PHOTO, Filter


def read_table(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Reads columns of photos from a table.

    Args:
        path: CSV with a heading, or JSON lines (.jsonl, .json), with a column `photo`. Other photos are skipped.
        names: of the photos.

    Returns:
        Column -> a text for each photo; the empty one where the table has none. Other JSON values as JSON text.

    Raises:
        ValueError: no column `photo`, a row that is none, a photo twice; the message names the row.
    """
    wanted, rows = set(names), {}
    for number, row in _rows(path):
        if not isinstance(row, dict) or not isinstance(row.get(PHOTO), str):
            raise ValueError(f"{path}, row {number}: no column '{PHOTO}' that names a photo")
        if row[PHOTO] in rows:
            raise ValueError(f"{path}, row {number}: {row[PHOTO]!r} has a row already")
        if row[PHOTO] in wanted:
            rows[row[PHOTO]] = row
    columns = sorted({str(column) for row in rows.values() for column in row} - {PHOTO})
    return {column: [_text(rows.get(name, {}).get(column)) for name in names] for column in columns}


def _rows(path: Path) -> Iterable[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            if path.suffix in (".jsonl", ".json"):
                yield from ((number, json.loads(line)) for number, line in enumerate(file, 1) if line.strip())
            else:
                yield from enumerate(csv.DictReader(file), 2)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path} is no table of photos: {error}") from error


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def check_columns(columns: Iterable[str], known: Iterable[str]) -> None:
    """Refuses columns that an index has not.

    Raises:
        ValueError: names the first, and those that there are.
    """
    known = list(known)
    for column in columns:
        if column not in known:
            raise ValueError(f"the index has no column '{column}'; it has: {', '.join(known) or 'none'}")


class PhotoTable:
    """Columns on disk: of each a number per photo and the texts that the numbers stand for.

    Args:
        folder: where `write_table` wrote.
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


def write_table(folder: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """Writes columns; `PhotoTable` reads them."""
    for number, texts in enumerate(columns.values()):
        codes = {text: code for code, text in enumerate(Counter(texts))}
        write_names(folder / f"column-{number}.txt", list(codes))
        rows = np.fromiter((codes[text] for text in texts), np.int32, len(texts))
        np.save(folder / f"column-{number}.npy", rows, allow_pickle=False)
