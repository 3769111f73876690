"""Reads tables of photo columns, by which searches can be filtered: CSV or JSON Lines files written by users."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.name_join import PHOTO_SYNONYMS, JoinError, PhotoNames, join_rows
from keras_retrieval.pipelines.files.tables import TableError, read_csv

from keras_retrieval.errors import ArgumentError

from .checks import check_column_name
from .column_types import COLUMN_TYPES, NOUNS, converter, infer_type
from .conditions import PHOTO_COLUMN
from .errors import ColumnTableError, IndexFileNotFoundError

log = logging.getLogger("keras_retrieval")


@dataclass(frozen=True)
class ColumnTable:
    """The column values of n photos in a table.

    Attributes:
        columns: for each column of the table one value per photo, as an index stores it; None where the table does not
            state one. An empty cell states that the photo has no value.
        types: the type of each column.
        stated: which photos have a row, (n,) bool.
        report: how rows and photos met, as a line of text.
    """

    columns: dict[str, list[str | None]]
    types: dict[str, str]
    stated: list[bool]
    report: str

    def texts(self) -> dict[str, list[str]]:
        """Returns the values of new photos, which are empty where the table does not state one."""
        return {column: [value or "" for value in values] for column, values in self.columns.items()}


def parse_types(texts: Sequence[str] | None) -> dict[str, str]:
    """Parses types of columns, such as year=number.

    Raises:
        ArgumentError: a text has another form, or the type is unknown.
    """
    types = {}
    for text in texts or []:
        column, equals, kind = text.rpartition("=")
        if not equals or not column or kind not in COLUMN_TYPES:
            raise ArgumentError(
                f"--types must have the form COLUMN=TYPE with one of {', '.join(COLUMN_TYPES)}, got {text}"
            )
        types[column] = kind
    return types


def check_types(texts: Sequence[str] | None, table: Path | None) -> None:
    """Checks the options --types and --columns.

    Raises:
        ArgumentError: a type has another form, or there is no table.
    """
    if parse_types(texts) and table is None:
        raise ArgumentError("--types needs --columns, the table with these columns")


def read_column_table(
    path: Path, names: Sequence[str], types: Mapping[str, str] | None = None, known: Mapping[str, str] | None = None
) -> ColumnTable:
    """Reads the column values of the given photos from a table.

    Rows are joined with photos by name (see the module `files.name_join`), and the log says how many met.

    Args:
        path: CSV file with a header, or JSON Lines file (.jsonl or .json), with a column `photo` that contains the name
            of a photo. Rows of photos that are not in `names` are ignored.
        names: names of the photos whose values are returned.
        types: the types of columns; the type of another column is the narrowest that all its values have.
        known: the types of the columns of an index, of which the table may lack some; None for a new index.

    Returns:
        The values, in the order of `names`. In a column of texts, JSON values other than strings are JSON text; null
        is the empty string, as is NaN, which Python and pandas write for a missing value.

    Raises:
        IndexFileNotFoundError: the file does not exist.
        ColumnTableError: the file cannot be parsed, a column has no name, a row has no `photo` or repeats the photo of
            an earlier row, no row names one of the photos, or a value is not of its type; the message gives the line.
            Or one of `types` is missing, or the index has it with another type.
    """
    if not path.is_file():
        raise IndexFileNotFoundError(f"there is no table of columns at {path}")
    try:
        rows = _json_lines(path) if path.suffix.lower() in (".jsonl", ".json") else _csv_rows(path)
        join = join_rows(path, [row[PHOTO_COLUMN] for _, row in rows], PhotoNames(names), lambda row: rows[row][0])
    except (JoinError, TableError) as error:
        raise ColumnTableError(str(error)) from error
    (log.info if join.complete else log.warning)(join.report)
    found = {photo: row for photo, row in zip(join.photos, rows, strict=True) if photo >= 0}
    columns = sorted({str(column) for _, row in found.values() for column in row} - {PHOTO_COLUMN})
    types, known = types or {}, known or {}
    for column in columns:
        try:
            check_column_name(column)
        except ArgumentError as error:
            raise ColumnTableError(f"{path}: {error}") from None
    if absent := [column for column in types if column not in columns]:
        raise ColumnTableError(f"{path} has no column {absent[0]!r}; its columns: {', '.join(columns) or 'none'}")
    if other := [column for column in types if known.get(column, types[column]) != types[column]]:
        column = other[0]
        raise ColumnTableError(
            f"--types {column}={types[column]}: the index has '{column}' as {NOUNS[known[column]]}, which cannot be "
            "changed: give the column another name, or index again"
        )
    kinds, values = {}, {}
    for column in columns:
        given = {photo: (where, row[column]) for photo, (where, row) in found.items() if column in row}
        kinds[column] = known.get(column) or types.get(column) or infer_type([value for _, value in given.values()])
        remedy = (
            f"the index has this column as {NOUNS[kinds[column]]}"
            if column in known
            else f"--types {column}=text keeps it as it is"
        )
        values[column] = _stored(column, kinds[column], given, len(names), remedy)
    stated = [photo in found for photo in range(len(names))]
    return ColumnTable(values, kinds, stated, join.report)


def _stored(column: str, kind: str, given: Mapping[int, tuple[str, Any]], count: int, remedy: str) -> list[str | None]:
    """The values of a column, as an index stores them, of `count` photos."""
    convert = converter(kind, [value for _, value in given.values()])
    stored: list[str | None] = [None] * count
    for photo, (where, value) in given.items():
        try:
            stored[photo] = convert(value)
        except ArgumentError as error:
            raise ColumnTableError(f"{where}: {column}: {error}; {remedy}") from None
    return stored


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
            row = json.loads(line, parse_constant=_constant)
            if "\\ud" in line.lower():
                json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise ColumnTableError(f"{where} is not a JSON object: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get(PHOTO_COLUMN), str) or not row[PHOTO_COLUMN].strip():
            raise ColumnTableError(f"{where}: no column '{PHOTO_COLUMN}' with the name of a photo")
        rows.append((where, row))
    return rows


def _constant(text: str) -> float | None:
    return None if text == "NaN" else float(text)
