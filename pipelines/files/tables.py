"""A CSV table with a heading, read so that no number is taken for another."""

import csv
from pathlib import Path


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Reads a table.

    Args:
        path: CSV in UTF-8; empty lines count for nothing.

    Returns:
        Its columns, and each row with the line on which it ends; "" where a row has fewer cells than columns.

    Raises:
        ValueError: it is no CSV file, two columns have one name, or a row has more cells than there are columns.
        OSError: it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, restkey="", restval="")
            columns = list(table.fieldnames or ())
            rows = [(table.line_num, row) for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not read ({error}): save it as a CSV file in UTF-8") from error
    twice = [column for column in columns if column and columns.count(column) > 1]
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]}: remove or rename one")
    for line, row in rows:
        more = row.pop("", None)  # the cells beyond the last column, where a column without a name is passed over, too
        if isinstance(more, list) and any(more):
            raise ValueError(
                f"{path}, line {line}: it has {len(columns) + len(more)} cells, and the heading {len(columns)}: "
                "a comma within a name needs quotes, within a number it is a point"
            )
    return columns, rows
