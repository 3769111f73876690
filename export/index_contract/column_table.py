"""Tables of photo columns, which filter searches: CSV or JSON lines files written by users."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .contract import PHOTO_COLUMN
from .errors import ColumnTableError, IndexFileNotFoundError


def read_column_table(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Reads the columns of photos from a table.

    Args:
        path: CSV file with a header, or JSON lines (.jsonl, .json), with a column `photo`. Other photos are skipped.
        names: names of the photos.

    Returns:
        A dict that maps each column to a value per photo, the empty string for a photo without one. JSON values other
        than strings and null become JSON text.

    Raises:
        IndexFileNotFoundError: the file does not exist.
        ColumnTableError: the file cannot be parsed, or a row has no `photo` or repeats one; the message gives the row.
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
    """Yields each row with its line number, which messages state."""
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
