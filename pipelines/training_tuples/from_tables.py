"""Training tuples from CSV tables, which contain the positions of photos, or pairs of matching photos."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..files.tables import read_csv
from .data import Tuples, TuplesError, cluster_by_pairs
from .from_positions import from_positions, metres
from .options import TuplesOptions


def from_csv(path: Path, options: TuplesOptions) -> Tuples:
    """Makes training tuples from a CSV table.

    The columns define the content of the table; further columns are ignored. `photo`, `east`, `north` are positions in
    metres, and `photo`, `latitude`, `longitude` positions in degrees; see `from_positions`. `query`, `positive` are the
    names of matching photos. Then the photos that are connected by pairs, directly or through other photos, form a
    cluster.

    Args:
        path: the .csv file, with a header line.
        options: the options of `tuples`; for positions, those of `from_positions` are used.

    Raises:
        TuplesError: the table does not have these columns, or a row is invalid; the message names the line.
    """
    columns, rows = read_csv(path)
    readers: tuple[tuple[tuple[str, ...], Callable], ...] = (
        (("photo", "east", "north"), _from_positions),
        (("photo", "latitude", "longitude"), partial(_from_positions, degrees=True)),
        (("query", "positive"), _from_pairs),
    )
    for wanted, reader in readers:
        if set(columns).issuperset(wanted):
            return reader(path, list(_cells(path, rows, wanted)), options)
    raise TuplesError(
        f"{path} has the columns {', '.join(sorted(columns)) or 'none'}: needed are photo, east, north, "
        "or photo, latitude, longitude, or query, positive"
    )


def _cells(
    path: Path, rows: Iterable[tuple[int, Mapping[str, str]]], columns: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    for line, row in rows:
        missing = [column for column in columns if not row[column]]
        if missing:
            raise TuplesError(f"{path}, line {line}: {', '.join(missing)} is empty")
        yield line, [row[column] for column in columns]


def _from_pairs(path: Path, rows: Sequence[tuple[int, list[str]]], options: TuplesOptions) -> Tuples:
    """Makes tuples from rows of query and positive; photos that are connected by pairs form a cluster."""
    first_line: dict[str, int] = {}
    for line, names in rows:
        for name in names:
            first_line.setdefault(name, line)
        if names[0] == names[1]:
            raise TuplesError(f"{path}, line {line}: {names[0]} is its own positive")
    images = sorted(first_line)
    index = {name: row for row, name in enumerate(images)}
    pairs = np.array(sorted({(index[one], index[other]) for _, (one, other) in rows}), np.int64).reshape(-1, 2)
    cluster = cluster_by_pairs(len(images), pairs[:, 0], pairs[:, 1])
    where = [f"{path}, line {first_line[name]}" for name in images]
    return Tuples(images, cluster, pairs[:, 0], pairs[:, 1], where=where)


def _from_positions(
    path: Path, rows: Sequence[tuple[int, list[str]]], options: TuplesOptions, degrees: bool = False
) -> Tuples:
    images = [names[0] for _, names in rows]
    where = [f"{path}, line {line}" for line, _ in rows]
    positions = np.array([_numbers(place, values) for place, (_, values) in zip(where, rows, strict=True)])
    positions = positions.reshape(-1, 2)
    return from_positions(images, metres(positions, where) if degrees else positions, where, options)


def _numbers(where: str, values: Sequence[str]) -> list[float]:
    try:
        numbers = [float(value) for value in values[1:]]
    except ValueError:
        numbers = [np.nan]
    if not np.isfinite(numbers).all():
        raise TuplesError(f"{where}: the position {', '.join(values[1:])} is not two numbers")
    return numbers
