"""photos."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .contract import PHOTO


class Rows:
    """Rows that can be read again and again.

    Args:
        read: gives them in pieces (n, D) float32.
    """

    def __init__(self, read: Callable[[], Iterator[np.ndarray]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._read()


@dataclass(frozen=True)
class PhotosToIndex:
    """What is to be indexed.

    Attributes:
        names: (N,) each once.
        rows: (N, D) finite; or (N, S) where they are reduced already.
        dimensions: S, of the stored rows.
        columns: column -> a text for each photo.
        projection: (D, S), reduces queries; and rows, unless they are reduced already.
        reduced: whether the rows are reduced already.
    """

    names: Sequence[str]
    rows: Rows
    dimensions: int
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    projection: np.ndarray | None = None
    reduced: bool = False

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """Rows as they are stored, before they take their form."""
        return rows if self.projection is None or self.reduced else rows @ self.projection


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


MADE_WITH = ("model", "size", "scales", "antialias", "mirror", "edges", "bfloat16", "exif", "max_pixels")
"""What a photo's descriptor depends on."""
