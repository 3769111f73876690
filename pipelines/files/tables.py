"""Reads CSV tables whose first line has the names of the columns."""

import csv
from pathlib import Path

from keras_retrieval.errors import RetrievalError


class TableError(RetrievalError, ValueError):
    """A file is not a CSV table in UTF-8, or a row has more cells than the heading line has columns."""


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Reads a CSV table whose first line has the names of the columns.

    A row with more cells than columns is an error, because a decimal comma in a number would otherwise shift the cells
    after it to the wrong columns.

    Args:
        path: a CSV file in UTF-8; empty lines are skipped.

    Returns:
        The names of the columns, and a list with a pair for each row: the number of the line on which the row ends
        (the first line of the file is 1), and a dict that maps each column to the row's cell. Cells that a short row
        lacks are "".

    Raises:
        TableError: the file is not a CSV file in UTF-8, two columns have the same name, or a row has more cells than
            there are columns.
        OSError: the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, restkey="", restval="")
            columns = list(table.fieldnames or ())
            rows = [(table.line_num, row) for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} cannot be read ({error}): save it as a CSV file in UTF-8") from error
    twice = [column for column in columns if column and columns.count(column) > 1]
    if twice:
        raise TableError(f"{path} has two columns {twice[0]}: remove or rename one")
    for line, row in rows:
        more = row.pop("", None)  # cells beyond the last column; this also drops a column without a name
        if isinstance(more, list) and any(more):
            raise TableError(
                f"{path}, line {line}: it has {len(columns) + len(more)} cells, and the heading {len(columns)}: "
                "put a name with a comma in quotes, and write numbers with a decimal point"
            )
    return columns, rows
