"""Tuples from CSV tables: positions of photos, or names of matching ones."""

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from .tuple_file import Choice, Tuples, TuplesError, cluster_by_pairs
from .tuple_positions import from_positions, metres


def from_csv(path: Path, choice: Choice) -> Tuples:
    """A table of positions (photo, east, north or photo, latitude, longitude) or of pairs (query, positive)."""
    try:
        return _from_table(path, choice)
    except (UnicodeDecodeError, csv.Error) as error:
        raise TuplesError(f"{path} is not read ({error}): save it as a CSV file in UTF-8") from error


def _from_table(path: Path, choice: Choice) -> Tuples:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        columns = set(table.fieldnames or ())
        readers: tuple[tuple[tuple[str, ...], Callable], ...] = (
            (("photo", "east", "north"), _from_positions),
            (("photo", "latitude", "longitude"), partial(_from_positions, degrees=True)),
            (("query", "positive"), _from_pairs),
        )
        for wanted, reader in readers:
            if columns.issuperset(wanted):
                return reader(path, list(_rows(path, table, wanted)), choice)
    raise TuplesError(
        f"{path} has the columns {', '.join(sorted(columns)) or 'none'}: needed are photo, east, north, "
        "or photo, latitude, longitude, or query, positive"
    )


def _rows(path: Path, table: csv.DictReader, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    for row in table:
        values = [row[column] for column in columns]
        if not all(values):
            missing = [column for column, value in zip(columns, values, strict=True) if not value]
            raise TuplesError(f"{path}, line {table.line_num}: {', '.join(missing)} is empty")
        yield table.line_num, values


def _from_pairs(path: Path, rows: Sequence[tuple[int, list[str]]], choice: Choice) -> Tuples:
    """Clusters are the groups of photos that pairs connect."""
    where: dict[str, int] = {}
    for line, names in rows:
        for name in names:
            where.setdefault(name, line)
        if names[0] == names[1]:
            raise TuplesError(f"{path}, line {line}: {names[0]} is its own positive")
    images = sorted(where)
    place = {name: row for row, name in enumerate(images)}
    pairs = np.array(sorted({(place[one], place[other]) for _, (one, other) in rows}), np.int64).reshape(-1, 2)
    cluster = cluster_by_pairs(len(images), pairs[:, 0], pairs[:, 1])
    lines = [f"{path}, line {where[name]}" for name in images]
    return Tuples(images, cluster, pairs[:, 0], pairs[:, 1], where=lines)


def _from_positions(path: Path, rows: Sequence[tuple[int, list[str]]], choice: Choice, degrees: bool = False) -> Tuples:
    images = [names[0] for _, names in rows]
    where = [f"{path}, line {line}" for line, _ in rows]
    positions = np.array([_numbers(place, values) for place, (_, values) in zip(where, rows, strict=True)])
    positions = positions.reshape(-1, 2)
    return from_positions(images, metres(positions, where) if degrees else positions, where, choice)


def _numbers(place: str, values: Sequence[str]) -> list[float]:
    try:
        numbers = [float(value) for value in values[1:]]
    except ValueError:
        numbers = [np.nan]
    if not np.isfinite(numbers).all():
        raise TuplesError(f"{place}: the position {', '.join(values[1:])} is not two numbers")
    return numbers
