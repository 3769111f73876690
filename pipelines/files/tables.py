"""CSV tables with a heading line, as spreadsheets and other programs write them."""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from keras_retrieval.errors import RetrievalError

SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
SPREADSHEETS = (".xlsx", ".xls", ".ods")  # `read_csv` tells the user to save them as CSV
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods, and .xls
_SEPARATOR = re.compile(r'\ufeff?"?sep=(.)"?[ \t]*(\r\n|\r|\n|$)', re.IGNORECASE)
_FORMULA = re.compile(r'="(.*)"', re.DOTALL)  # keeps Excel from changing a text
_BLANKS = " \t\r\n\v\f\u00a0\u200b\ufeff"
_UNIT = re.compile(r"\(.*?\)|\[.*?\]")
_COMPARED = 100  # records by which a delimiter is judged
_END = "\0"  # occurs in no table that is read


class TableError(RetrievalError, ValueError):
    """A file is not a CSV table, its rows do not fit its heading, or a column is missing or ambiguous."""


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        line: the line of the file on which the row ends.
        cells: the cells by column; "" for cells that a short row lacks.
    """

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table in memory.

    Attributes:
        path: the file.
        columns: the columns, as the heading names them, without blanks around them; columns without a name are left
            out.
        rows: the rows, without empty ones.
    """

    path: Path
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def where(self, line: int) -> str:
        """Returns the file and the line, for messages."""
        return f"{self.path}, line {line}"

    def column(self, name: str, synonyms: Iterable[str] = ()) -> str | None:
        """Finds a column by its name or a synonym.

        Capital letters, blanks, underscores, hyphens, dots and units in brackets do not count: "GPS Latitude (deg)" is
        gpslatitude.

        Args:
            name: the name, which takes precedence over synonyms.
            synonyms: other names with the same meaning, in lower-case letters and digits.

        Returns:
            The column as the heading names it; None if there is none.

        Raises:
            TableError: several columns have the name, or none has it and several have a synonym.
        """
        for names in ({name}, set(synonyms)):
            found = [column for column in self.columns if column == name] or [
                column for column in self.columns if column_key(column) in names
            ]
            if len(found) > 1:
                raise TableError(f"{self.path}: the columns {' and '.join(found)} both mean {name}: rename one")
            if found:
                return found[0]
        return None

    def no_columns(self, needed: str) -> TableError:
        """The error for a table without the needed columns.

        Args:
            needed: the columns that the table must have, in words.
        """
        have = ", ".join(self.columns) or "none"
        return TableError(f"{self.path} has the columns {have}: needed are {needed}, named in its first line")


def read_csv(path: Path) -> Table:
    """Reads a CSV table.

    The encoding is UTF-8, or what a byte order mark states, or UTF-16. The delimiter is the one that a first line
    "sep=;" states, or of comma, semicolon, tab and vertical bar the one that divides the heading and the rows alike. A
    row with more cells than columns is an error, since a comma within a number would shift all cells after it.

    Args:
        path: the file.

    Returns:
        The table; without columns if the file is empty.

    Raises:
        TableError: the file is not a table, its encoding or delimiter is unknown, two columns have one name, or a row
            has more cells than there are columns; the message names the line.
        OSError: the file cannot be read.
    """
    text = _decoded(path, path.read_bytes())
    separator, lines = _SEPARATOR.match(text), 0
    if separator:
        text, lines = text[separator.end() :], 1
    delimiter = separator[1] if separator else _delimiter(path, text)
    records = _records(path, text, delimiter, lines)
    line, heading = next(records, (0, []))
    columns = [cell.strip(_BLANKS) for cell in heading]
    while columns and not columns[-1]:
        columns.pop()
    twice = [column for column in columns if column and columns.count(column) > 1]
    if twice:
        raise TableError(f"{path}, line {line}: two columns are named {twice[0]}: remove or rename one")
    rows = []
    for line, cells in records:
        filled = len(cells)
        while filled and not cells[filled - 1].strip(_BLANKS):
            filled -= 1
        if filled > len(columns):
            raise TableError(
                f"{path}, line {line}: it has {filled} cells, and the heading {len(columns)}: put a cell that contains "
                f"one of the {DELIMITERS.get(delimiter, repr(delimiter))} between cells in quotes, and write numbers "
                "with a decimal point"
            )
        padded = [*cells, *[""] * (len(columns) - len(cells))]
        rows.append(Row(line, {column: cell for column, cell in zip(columns, padded, strict=False) if column}))
    return Table(path, [column for column in columns if column], rows)


def _decoded(path: Path, content: bytes) -> str:
    if content.startswith(_SPREADSHEETS):
        raise TableError(f"{path} is a spreadsheet: save it as CSV UTF-8, and give that file")
    encoding = "utf-8"
    for mark, marked in _MARKS:
        if content.startswith(mark):
            content, encoding = content[len(mark) :], marked
            break
    else:
        # Western text in UTF-16 without a mark: every other byte is zero.
        start = content[:200]
        for first, wide in ((1, "utf-16-le"), (0, "utf-16-be")):
            if len(start) > 3 and 2 * start[first::2].count(0) > len(start[first::2]):
                encoding = wide
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise TableError(f"{path} is not {encoding.upper()} ({error}): save it as a CSV file in UTF-8") from None
        line = content.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{path}, line {line}: byte {content[error.start]:#x} is not UTF-8: save the table as CSV UTF-8; if it is "
            "in Excel's western encoding, `iconv -f WINDOWS-1252 -t UTF-8` converts it"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TableError(f"{path}, line {line}: it contains a zero byte: the file is damaged, or is not a table")
    return text


def _delimiter(path: Path, text: str) -> str:
    """The delimiter that divides the heading into the most columns, and the rows into as many cells."""
    judged = sorted((_division(text, delimiter), delimiter) for delimiter in DELIMITERS)
    (second, other), (best, delimiter) = judged[-2:]
    if best[1] < 2:
        return ","  # one column
    if best == second:
        raise TableError(
            f"{path}: {DELIMITERS[delimiter]} and {DELIMITERS[other]} divide its lines alike: name the one between "
            "the columns in a line before the heading, such as sep=;"
        )
    return delimiter


def _division(text: str, delimiter: str) -> tuple[bool, int, int]:
    """Whether a delimiter divides most rows like the heading, the columns that it gives, and the rows so divided."""
    try:
        heading, *rows = (cells for _, cells in islice(_cells(text, delimiter), _COMPARED))
    except (ValueError, csv.Error):  # no record, or a cell as long as the file
        return False, 0, 0
    columns = sum(bool(cell.strip(_BLANKS)) and _is_closed(cell) for cell in heading)
    alike = sum(len(cells) == len(heading) for cells in rows)
    return columns > 1 and 2 * alike >= len(rows), columns, alike


def _is_closed(cell: str) -> bool:
    """Whether a cell has as many closing brackets as opening ones, unlike a part of a unit such as (WGS84, °)."""
    return all(cell.count(one) == cell.count(other) for one, other in ("()", "[]"))


def _cells(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the line and the cells of each record that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    for cells in reader:
        if any(cell.strip(_BLANKS) for cell in cells):
            yield reader.line_num, [cell[2:-1] if _FORMULA.fullmatch(cell) else cell for cell in cells]


def _records(path: Path, text: str, delimiter: str, lines: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the line and the cells of each record, where the text begins after `lines` lines of the file."""
    line = last = 0
    try:
        # Unless the last line becomes a record of its own, a quotation mark before it is still open.
        for line, cells in _cells(f"{text}\n{_END}", delimiter):
            if cells == [_END]:
                return
            if cells[-1].endswith(_END):
                break
            yield line + lines, cells
            last = line
        raise TableError(f"{path}, line {last + lines + 1}: a quotation mark opens there and never closes")
    except csv.Error as error:
        raise TableError(
            f"{path} cannot be read after line {line + lines} ({error}): save it as a CSV file in UTF-8"
        ) from error


def read_lines(path: Path) -> list[str]:
    """Reads a text file with one entry per line, in the encodings of `read_csv`; empty lines are left out.

    Raises:
        TableError: the encoding is unknown.
        OSError: the file cannot be read.
    """
    lines = re.split(r"\r\n|\r|\n", _decoded(path, path.read_bytes()))
    return [line for line in lines if line.strip(_BLANKS)]


def column_key(column: str) -> str:
    """Returns a heading in a form for comparison: lower-case letters and digits."""
    plain = _UNIT.sub("", unicodedata.normalize("NFKC", column).casefold())
    return "".join(character for character in plain if character.isalnum())
