"""CSV tables with a heading line."""

import csv
from pathlib import Path

from keras_retrieval.errors import RetrievalError


class TableError(RetrievalError, ValueError):
    """A file is not a CSV table in UTF-8, or its rows do not fit its heading."""


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Reads a CSV table.

    A row with more cells than columns is an error, since a comma within a number would shift all cells after it.

    Args:
        path: CSV file in UTF-8; empty lines are skipped.

    Returns:
        The columns, and for each row the line on which it ends and its cells by column; "" for cells that a short row
        lacks.

    Raises:
        TableError: the file is not CSV, two columns have one name, or a row has more cells than there are columns.
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
