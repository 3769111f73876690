"""Reads tables of photo columns, by which searches can be filtered: CSV or JSON Lines files written by users."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .contract import PHOTO_COLUMN
from .errors import ColumnTableError, IndexFileNotFoundError


def read_column_table(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Reads the column values of the given photos from a table.

    Args:
        path: CSV file with a header, or JSON Lines file (.jsonl or .json), UTF-8, with a column `photo` that contains
            the name of a photo. Rows of photos that are not in `names` are ignored.
        names: names of the photos whose values are returned.

    Returns:
        A dict from column names, without `photo`, to one string per photo in the order of `names`. A photo without a
        value has the empty string. JSON values other than strings are converted to JSON text, and null to the empty
        string.

    Raises:
        IndexFileNotFoundError: the file does not exist.
        ColumnTableError: the file cannot be parsed, or a row has no `photo` or repeats the photo of an earlier row; the
            message gives the row number.
    """
    wanted, rows = set(names), {}
    for number, row in _rows(path):
        if not isinstance(row, dict) or not isinstance(row.get(PHOTO_COLUMN), str):
            raise ColumnTableError(f"{path}, row {number}: no column '{PHOTO_COLUMN}' with the name of a photo")
        if row[PHOTO_COLUMN] in rows:
            raise ColumnTableError(f"{path}, row {number}: {row[PHOTO_COLUMN]!r} has a row already")
        if row[PHOTO_COLUMN] in wanted:
            rows[row[PHOTO_COLUMN]] = row
    columns = sorted({str(column) for row in rows.values() for column in row} - {PHOTO_COLUMN})
    return {column: [_as_text(rows.get(name, {}).get(column)) for name in names] for column in columns}


def _rows(path: Path) -> Iterable[tuple[int, Any]]:
    """Yields each row of the table with its line number, which error messages state."""
    if not path.is_file():
        raise IndexFileNotFoundError(f"there is no table of columns at {path}")
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            if path.suffix in (".jsonl", ".json"):
                yield from ((number, json.loads(line)) for number, line in enumerate(file, 1) if line.strip())
            else:
                yield from enumerate(csv.DictReader(file), 2)
        except (ValueError, csv.Error) as error:
            raise ColumnTableError(f"{path} is not a table of photo columns: {error}") from error


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
