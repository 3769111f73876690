"""Positions of photos in tables: columns by many names, numbers as spreadsheets write them."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..files.number_text import NumberError, NumberReader
from ..files.tables import Row, Table, column_key
from .positions import DEGREES, Position, PositionError, checked_position, looks_like_degrees, utm_system

log = logging.getLogger("keras_retrieval")

COLUMNS = "photo, east, north (metres) or photo, latitude, longitude (degrees)"
"""The columns of a table of positions, in words."""

_SYNONYMS = {
    "latitude": ("lat", "gpslatitude", "gpslat", "latitudedeg", "latdeg", "wgs84latitude", "wgs84lat"),
    "longitude": (
        "lon", "lng", "long", "gpslongitude", "gpslon", "gpslng", "longitudedeg", "londeg", "wgs84longitude",
        "wgs84lon",
    ),
    "east": ("easting", "utmeast", "utmeasting", "utme", "eastm", "eastingm", "eastutm", "e"),
    "north": ("northing", "utmnorth", "utmnorthing", "utmn", "northm", "northingm", "northutm", "n"),
    "x": ("xcoord", "xcoordinate", "coordx", "utmx"),
    "y": ("ycoord", "ycoordinate", "coordy", "utmy"),
    "zone": ("utmzone", "zonenumber", "utmzonenumber", "zoneutm", "epsg", "srid", "crs"),
    "letter": ("band", "zoneletter", "utmletter", "utmband", "utmzoneletter", "latitudeband"),
    "hemisphere": ("hemi", "utmhemisphere"),
    "panorama": ("pano", "panoid", "panoramaid", "panoramaname"),
}  # fmt: skip
_SIDE = re.compile(r"([NSEW])?\s*([^NSEW°]*?)\s*°?\s*([NSEW])?", re.IGNORECASE)
_MINUTES = "[\"'\u2018\u2019\u201d\u2032\u2033:]"
_SEXAGESIMAL = re.compile(rf"[0-9][^0-9]*{_MINUTES}|[0-9]\s*[dhm°]\s*[0-9]|[0-9]\s+[0-9]")


@dataclass(frozen=True)
class _Columns:
    east: str
    north: str
    degrees: bool
    stated: tuple[str, str] | None = None  # latitude and longitude besides UTM coordinates


def has_positions(table: Table) -> bool:
    """Whether a table has columns of positions.

    Raises:
        TableError: two columns have one meaning.
    """
    return any(_pair(table, *pair) for pair in (("east", "north"), ("latitude", "longitude"), ("x", "y")))


def degree_columns(columns: Sequence[str]) -> tuple[str, str] | None:
    """Finds the columns of latitude and longitude among the columns of an index, by their names or synonyms.

    Args:
        columns: names of columns.

    Returns:
        The names of the columns of latitude and longitude; None unless there is exactly one of each.
    """
    found = []
    for name in ("latitude", "longitude"):
        keys = {name, *_SYNONYMS[name]}
        matching = [column for column in columns if column == name] or [
            column for column in columns if column_key(column) in keys
        ]
        found += matching if len(matching) == 1 else [""]
    return (found[0], found[1]) if all(found) else None


def read_positions(table: Table) -> list[Position]:
    """Reads the positions in a table, from the columns `COLUMNS` or synonyms such as lat, lng, easting, utm_north.

    Columns x and y are in metres if a value is too large for degrees, and in degrees if they can be nothing else.
    Optional columns: zone, letter, hemisphere and panorama. UTM coordinates without a zone are taken only if the table
    has no latitude and longitude.

    Args:
        table: the table.

    Returns:
        The position of each row.

    Raises:
        PositionError: a row has no position, or one that is out of range; the message names the line.
        TableError: columns are missing or ambiguous.
    """
    optional = {name: _column(table, name) for name in ("zone", "letter", "hemisphere", "panorama")}
    columns = _position_columns(table, optional["zone"] is not None)
    if columns.degrees:
        small = NumberReader((), small=True, resolution=1e-4)
        pairs = [
            (_degrees(table, row, columns.east, "EW", small), _degrees(table, row, columns.north, "NS", small))
            for row in table.rows
        ]
    else:
        reader = NumberReader(row.cells[column] for row in table.rows for column in (columns.east, columns.north))
        pairs = [
            (_metres(table, row, columns.east, reader), _metres(table, row, columns.north, reader))
            for row in table.rows
        ]
    positions = []
    for row, (east, north) in zip(table.rows, pairs, strict=True):
        where = table.where(row.line)
        texts = {name: row.cells[column] if column else "" for name, column in optional.items()}
        system, stated = DEGREES, None
        if not columns.degrees:
            system = utm_system(texts["zone"], texts["letter"], texts["hemisphere"], north, where)
            stated = _stated(table, row, columns.stated)
            if optional["zone"] and not system:
                raise PositionError(f"{where}: {optional['zone']} is empty")
            if stated and system.isdigit():
                system += "S" if stated[0] < 0 else "N"
        positions.append(checked_position(Position(east, north, system, texts["panorama"].strip(), stated), where))
    return positions


def _column(table: Table, name: str) -> str | None:
    return table.column(name, _SYNONYMS[name])


def _pair(table: Table, one: str, other: str) -> tuple[str, str] | None:
    columns = _column(table, one), _column(table, other)
    return (columns[0], columns[1]) if columns[0] and columns[1] else None


def _position_columns(table: Table, zoned: bool) -> _Columns:
    plane, degrees = _pair(table, "east", "north"), _pair(table, "latitude", "longitude")
    if plane and (zoned or not degrees):
        return _Columns(*plane, degrees=False, stated=degrees)
    if degrees:
        return _Columns(degrees[1], degrees[0], degrees=True)
    plane = _pair(table, "x", "y")
    if plane is None:
        raise table.no_columns(COLUMNS)
    return _Columns(*plane, degrees=not zoned and _in_degrees(table, plane))


def _in_degrees(table: Table, columns: tuple[str, str]) -> bool:
    """Whether the columns x and y are longitude and latitude, which only their values tell."""
    reader = NumberReader(row.cells[column] for row in table.rows for column in columns)
    values = []
    for row in table.rows:
        try:
            values.append([reader.read(row.cells[column]) for column in columns])
        except NumberError:
            if any(character in "NSEWnsew°" for column in columns for character in row.cells[column]):
                return True
    found = np.array(values, np.float64).reshape(-1, 2)
    if not len(found) or np.abs(found[:, 0]).max() > 180 or np.abs(found[:, 1]).max() > 90:
        return False
    if not looks_like_degrees(found):
        raise PositionError(
            f"{table.path}: {columns[0]} and {columns[1]} may be degrees or metres: name the columns longitude and "
            "latitude, or east and north"
        )
    log.info("%s: %s and %s are read as longitude and latitude", table.path, *columns)
    return True


def _cell(table: Table, row: Row, column: str) -> str:
    if not row.cells[column].strip():
        raise PositionError(f"{table.where(row.line)}: {column} is empty")
    return row.cells[column].strip()


def _metres(table: Table, row: Row, column: str, reader: NumberReader) -> float:
    text = _cell(table, row, column)
    try:
        return reader.read(text)
    except NumberError as error:
        raise PositionError(f"{table.where(row.line)}: {column} must be a number of metres: {error}") from None


def _degrees(table: Table, row: Row, column: str, sides: str, reader: NumberReader) -> float:
    text, where = _cell(table, row, column), table.where(row.line)
    if _SEXAGESIMAL.search(text):
        raise PositionError(
            f"{where}: {column} {text!r} is in degrees and minutes: write it in decimal degrees, such as 48.8534"
        )
    match = _SIDE.fullmatch(text)
    side = "".join(filter(None, (match[1], match[3]))).upper() if match else ""
    if len(side) == 1 and side not in sides:
        raise PositionError(f"{where}: {column} is {text!r}: are latitude and longitude swapped?")
    try:
        value = reader.read(match[2] if match and len(side) < 2 else text)
    except NumberError as error:
        raise PositionError(f"{where}: {column} must be decimal degrees: {error}") from None
    if side and value < 0:
        raise PositionError(f"{where}: {column} {text!r} has both a sign and a letter: leave one out")
    return -value if side in ("S", "W") else value


def _stated(table: Table, row: Row, columns: Sequence[str] | None) -> tuple[float, float] | None:
    """Latitude and longitude besides UTM coordinates, where a row has them."""
    if columns is None or not all(row.cells[column].strip() for column in columns):
        return None
    reader = NumberReader((), small=True, resolution=1e-4)
    latitude, longitude = (
        _degrees(table, row, column, sides, reader) for column, sides in zip(columns, ("NS", "EW"), strict=True)
    )
    checked_position(Position(longitude, latitude, DEGREES), table.where(row.line))
    return latitude, longitude
