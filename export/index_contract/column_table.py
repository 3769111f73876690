"""Reads tables of photo columns, by which searches can be filtered: CSV or JSON Lines files written by users."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.name_join import PHOTO_SYNONYMS, JoinError, PhotoNames, join_rows
from keras_retrieval.pipelines.files.tables import TableError, read_csv

from .contract import PHOTO_COLUMN
from .errors import ColumnTableError, IndexFileNotFoundError

log = logging.getLogger("keras_retrieval")


def read_column_table(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Reads the column values of the given photos from a table.

    Rows are joined with photos by name (see the module `files.name_join`), and the log says how many met.

    Args:
        path: CSV file with a header, or JSON Lines file (.jsonl or .json), with a column `photo` that contains the name
            of a photo. Rows of photos that are not in `names` are ignored.
        names: names of the photos whose values are returned.

    Returns:
        A dict from column names, without `photo`, to one string per photo in the order of `names`. A photo without a
        value has the empty string. JSON values other than strings are converted to JSON text, and null to the empty
        string.

    Raises:
        IndexFileNotFoundError: the file does not exist.
        ColumnTableError: the file cannot be parsed, a row has no `photo` or repeats the photo of an earlier row, or no
            row names one of the photos; the message gives the line.
    """
    if not path.is_file():
        raise IndexFileNotFoundError(f"there is no table of columns at {path}")
    try:
        rows = _json_lines(path) if path.suffix.lower() in (".jsonl", ".json") else _csv_rows(path)
        join = join_rows(path, [row[PHOTO_COLUMN] for _, row in rows], PhotoNames(names), lambda row: rows[row][0])
    except (JoinError, TableError) as error:
        raise ColumnTableError(str(error)) from error
    (log.info if join.complete else log.warning)(join.report)
    found = {photo: row for photo, (_, row) in zip(join.photos, rows, strict=True) if photo >= 0}
    columns = sorted({str(column) for row in found.values() for column in row} - {PHOTO_COLUMN})
    return {column: [_as_text(found.get(photo, {}).get(column)) for photo in range(len(names))] for column in columns}


def _csv_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The origin and the cells of each row, with the name of its photo in the column `photo`."""
    table = read_csv(path)
    photo = table.column(PHOTO_COLUMN, PHOTO_SYNONYMS)
    if photo is None:
        raise table.no_columns(f"'{PHOTO_COLUMN}' and others")
    rows = []
    for line, cells in table.rows:
        if not cells[photo].strip():
            raise ColumnTableError(f"{table.where(line)}: {photo} is empty")
        others = {column: cell for column, cell in cells.items() if column != photo}
        rows.append((table.where(line), others | {PHOTO_COLUMN: cells[photo]}))
    return rows


def _json_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ColumnTableError(f"{path} is not a table of photo columns: {error}: save it in UTF-8") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ColumnTableError(f"{where} is not a JSON object: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get(PHOTO_COLUMN), str) or not row[PHOTO_COLUMN].strip():
            raise ColumnTableError(f"{where}: no column '{PHOTO_COLUMN}' with the name of a photo")
        rows.append((where, row))
    return rows


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
