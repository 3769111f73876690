"""Training tuples from CSV tables, which contain the positions of photos, or pairs of matching photos."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..files.name_join import PHOTO_SYNONYMS, JoinError, PhotoNames, join_rows
from ..files.tables import Row, Table, TableError, read_csv
from ..gps.photo_positions import read_headings
from ..photos.position_table import COLUMNS, has_positions, read_positions
from ..photos.positions import PositionError
from .copies import CopyGroups, no_copies
from .data import Tuples, TuplesError, cluster_by_pairs
from .from_positions import from_positions
from .options import TuplesOptions
from .unused_options import POSITIONS, POSITIVES, refuse_unused

log = logging.getLogger("keras_retrieval")

_QUERY, _POSITIVE = ("queryphoto", "queryimage", "anchor"), ("positivephoto", "positiveimage", "match")


def from_csv(path: Path, options: TuplesOptions, copies: CopyGroups = no_copies) -> Tuples:
    """Makes training tuples from a CSV table.

    The columns define the content of the table; further columns are ignored. `photo`, `east`, `north` are positions in
    metres, and `photo`, `latitude`, `longitude` positions in degrees; see `read_positions` and `from_positions`.
    `query`, `positive` are the names of matching photos. Then the photos that are connected by pairs, directly or
    through other photos, form a cluster. With `options.photos`, rows whose photo is not in that folder are left out
    and reported to the log.

    Args:
        path: the file of the table, with a header line.
        options: the options of `tuples`; for positions, those of `from_positions` are used.
        copies: finds copies of photos, which are not chosen as positives of each other where positives are chosen.

    Raises:
        TuplesError: the table does not have these columns, a row is invalid, or no row names a photo of the folder; the
            message names the line.
    """
    try:
        table = read_csv(path)
        if table.columns and not table.rows:
            raise TuplesError(f"{path} has no rows below its heading: nothing to learn from")
        query, positive = table.column("query", _QUERY), table.column("positive", _POSITIVE)
        if query and positive:
            refuse_unused(options, "pairs of photos")
            return _from_pairs(table, query, positive, options)
        photo = table.column("photo", PHOTO_SYNONYMS)
        if photo and has_positions(table):
            refuse_unused(options, "positions", POSITIONS, POSITIVES)
            return _from_positions(table, photo, options, copies)
        raise table.no_columns(f"{COLUMNS}, or query, positive")
    except (TableError, JoinError, PositionError) as error:
        raise TuplesError(str(error)) from error


def _from_positions(table: Table, photo: str, options: TuplesOptions, copies: CopyGroups = no_copies) -> Tuples:
    names = [_name(table, row, photo) for row in table.rows]
    positions, headings = read_positions(table), read_headings(table)
    where = [table.where(row.line) for row in table.rows]
    found = _joined(table, names, where, options, repeated=False)
    positions, where = [positions[row] for row in found], [where[row] for row in found]
    return from_positions(list(found.values()), positions, where, options, headings[list(found)], copies)


def _from_pairs(table: Table, query: str, positive: str, options: TuplesOptions) -> Tuples:
    """Makes tuples from rows of query and positive; photos that are connected by pairs form a cluster."""
    names = [_name(table, row, column) for row in table.rows for column in (query, positive)]
    where = [table.where(row.line) for row in table.rows for _ in range(2)]
    found = _joined(table, names, where, options, repeated=True)
    both = [row for row in found if row ^ 1 in found]  # query and positive are at 2 n and 2 n + 1
    names, where = [found[row] for row in both], [where[row] for row in both]
    first: dict[str, str] = {}
    for name, place in zip(names, where, strict=True):
        first.setdefault(name, place)
    for one, other, place in zip(names[::2], names[1::2], where[::2], strict=True):
        if one == other:
            raise TuplesError(f"{place}: {one} is its own positive")
    images = sorted(first)
    index = {name: row for row, name in enumerate(images)}
    indexes = {(index[one], index[other]) for one, other in zip(names[::2], names[1::2], strict=True)}
    pairs = np.array(sorted(indexes), np.int64).reshape(-1, 2)
    cluster = cluster_by_pairs(len(images), pairs[:, 0], pairs[:, 1])
    return Tuples(images, cluster, pairs[:, 0], pairs[:, 1], where=[first[name] for name in images])


def _name(table: Table, row: Row, column: str) -> str:
    if not row.cells[column].strip():
        raise TuplesError(f"{table.where(row.line)}: {column} is empty")
    return row.cells[column]


def _joined(
    table: Table, names: list[str], where: Sequence[str], options: TuplesOptions, repeated: bool
) -> dict[int, str]:
    """Maps the rows whose photo exists to its name; without a folder of photos, every row to the name that it has."""
    if options.photos is None or not names:
        return {row: name.strip() for row, name in enumerate(names)}
    intake = options.take(options.photos)
    log.info(intake.account)
    listed = intake.photos
    join = join_rows(table.path, names, PhotoNames(listed), where.__getitem__, repeated)
    (log.info if join.complete else log.warning)(join.report)
    return {row: listed[photo] for row, photo in enumerate(join.photos) if photo >= 0}
