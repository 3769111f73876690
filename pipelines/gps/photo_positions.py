"""Where photos of a folder were taken, by their own metadata or by a table of positions."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files.name_join import PHOTO_SYNONYMS, PhotoNames, join_rows
from ..files.number_text import NumberError, NumberReader
from ..files.remote import named
from ..files.tables import Row, Table, read_csv
from ..photos.intake import counted
from ..photos.position_table import COLUMNS, read_positions
from ..photos.positions import DEGREES, Position, PositionError
from .records import read_records

EXIF = ("exif", "gps")
"""The values of an option --positions that name the photos' own metadata instead of a table."""

log = logging.getLogger("keras_retrieval")

_HEADINGS = ("compass", "bearing", "azimuth", "gpsimgdirection", "imgdirection", "cameraheading", "compassangle")
_REFERENCES = ("headingref", "gpsimgdirectionref")


@dataclass(frozen=True)
class Places:
    """The positions of the n photos of a folder that have one.

    Attributes:
        rows: (n,) integers, the photos as indexes into the names that were passed to `read_places`, ascending.
        positions: their positions.
        where: for each its origin, such as the file and line that list it, for messages.
        headings: (n,) directions of the cameras in degrees clockwise from north, NaN where it is not known.
        account: the numbers of photos with and without a position, as a line of text.
    """

    rows: np.ndarray
    positions: list[Position]
    where: list[str]
    headings: np.ndarray
    account: str


def positions_source(label: str, value: Any) -> None:
    """The kind of the option `--positions`: exif, or a table that must exist.

    Raises:
        PositionError: the table does not exist.
    """
    if value.lower() not in EXIF:
        _require_table(Path(value))


def read_places(source: str, folder: Path, names: Sequence[str]) -> Places:
    """Reads the positions of photos.

    Args:
        source: "exif" or "gps" for the metadata of the photos, or the path of a table with the columns that
            `photos.position_table.read_positions` reads, and optionally `heading`.
        folder: the folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.
        names: the names of the photos below `folder`.

    Raises:
        RemoteError: the storage of an address does not answer, or refuses.
        PositionError: the table does not exist or has an invalid row, or no photo has a position.
        TableError: the file is not a table, or lacks columns.
        JoinError: a row may name several photos, two rows name one photo, or no row names a photo.
    """
    return _from_metadata(folder, names) if source.lower() in EXIF else _from_table(Path(source), names)


def _from_metadata(folder: Path, names: Sequence[str]) -> Places:
    records = read_records(folder, names)
    rows, positions, headings = [], [], []
    references = set()
    for row, record in enumerate(records.values()):
        if record.latitude is not None and record.longitude is not None:
            rows.append(row)
            positions.append(Position(record.longitude, record.latitude, DEGREES))
            headings.append(np.nan if record.heading is None else record.heading)
            references.add(record.heading_reference if record.heading is not None else "")
    reasons = "; ".join(counted(record.reason for record in records.values() if record.reason))
    if not rows:
        raise PositionError(f"{named(folder)}: none of {len(names):,} photos has a position in its metadata: {reasons}")
    _warn_of_references(named(folder), references)
    account = f"{len(rows):,} of {len(names):,} photos have a position in their metadata"
    where = [f"{named(folder)}/{names[row]}" for row in rows]
    return Places(
        np.array(rows, np.int64), positions, where, np.array(headings, np.float64),
        f"{named(folder)}: {account}{f'; without: {reasons}' if reasons else ''}",
    )  # fmt: skip


def _require_table(path: Path) -> None:
    if not path.is_file():
        raise PositionError(f"--positions {path}: there is no such file; exif reads the photos' own metadata")


def _from_table(path: Path, names: Sequence[str]) -> Places:
    _require_table(path)
    table = read_csv(path)
    column = table.column("photo", PHOTO_SYNONYMS)
    if column is None:
        raise table.no_columns(COLUMNS)
    positions, headings = read_positions(table), read_headings(table)
    where = [table.where(row.line) for row in table.rows]
    join = join_rows(path, [row.cells[column] for row in table.rows], PhotoNames(names), where.__getitem__)
    row_of = {photo: row for row, photo in enumerate(join.photos) if photo >= 0}
    rows = sorted(row_of)
    order = [row_of[photo] for photo in rows]
    return Places(
        np.array(rows, np.int64),
        [positions[row] for row in order],
        [where[row] for row in order],
        headings[order],
        join.report,
    )


def read_headings(table: Table) -> np.ndarray:
    """Reads the column `heading` of a table, degrees clockwise from north.

    Returns:
        The headings in 0..360, (n,) float64 for n rows; NaN for empty cells, and for all rows if the table has no such
        column.

    Raises:
        PositionError: a heading is not a number in -360..360; the message names the line.
        TableError: two columns have this meaning.
    """
    column, reference = table.column("heading", _HEADINGS), table.column("heading_reference", _REFERENCES)
    if column is None:
        return np.full(len(table.rows), np.nan)
    reader = NumberReader((), small=True, resolution=1.0)
    headings = np.array([_heading(table, row, column, reader) for row in table.rows], np.float64)
    if reference is not None:
        stated = [row.cells[reference].strip().lower() for row in table.rows]
        _warn_of_references(table.path, {stated[row] for row in np.flatnonzero(~np.isnan(headings))})
    return headings


def _heading(table: Table, row: Row, column: str, reader: NumberReader) -> float:
    text = row.cells[column].strip().removesuffix("°").strip()
    if not text:
        return np.nan
    try:
        heading = reader.read(text)
    except NumberError:
        heading = np.nan
    if not abs(heading) <= 360:
        raise PositionError(f"{table.where(row.line)}: {column} must be degrees in -360..360, got {text!r}")
    return heading % 360


def _warn_of_references(source: Path | str, references: set[str]) -> None:
    if {"true", "magnetic"} <= references:
        log.warning(
            f"{source}: some headings refer to true north and others to magnetic north; they are compared as if they "
            "were the same, which is wrong by the declination, up to about 20 degrees in inhabited regions"
        )
