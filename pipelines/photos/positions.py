"""Positions of photos in metres or degrees, read from their names and compared by distance.

A position is in one of these systems:

- "31N" or "31S": UTM, metres east and north in a zone of the northern or southern hemisphere
- "31": UTM, where the hemisphere is not known
- "degrees": longitude and latitude in degrees, WGS84
- "": metres east and north in an unknown plane, such as a national grid or an invented street
"""

import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from keras_retrieval.errors import RetrievalError

from ..files.number_text import NumberError, NumberReader
from ..files.remote import named

log = logging.getLogger("keras_retrieval")

RADIUS = 25.0
"""The distance in metres up to which two photos count as photos of the same place.

The value is from Torii et al. CVPR 2013 and Arandjelovic et al. CVPR 2016.
"""
DEGREES = "degrees"

# The fields of a name: @east@north@zone@letter@latitude@longitude@panorama@.., of which the first is empty.
_EAST, _NORTH, _ZONE, _LETTER, _LATITUDE, _LONGITUDE, _PANORAMA = range(1, 8)
_AXIS, _FLATTENING = 6_378_137.0, 1 / 298.257223563  # of WGS84; the axis in metres
_WEB_MERCATOR = 20_037_508.4  # metres: the largest coordinate of any projection in use
_EPSG = re.compile(r"(?:EPSG:*)?(326|327|258)([0-9]{2})")
_ZONE_NUMBER = re.compile(r"(?:WGS *84|ETRS *89)?[ /]*(?:UTM|ZONE| )*([0-9]{1,2}) *([A-Z]|NORTH|SOUTH)?")
_LARGE, _SMALL = NumberReader(()), NumberReader((), small=True, resolution=1e-4)  # metres and degrees in names
_BAND_S = (3_370_000, 4_600_000)  # metres north: latitudes 32 to 40 with a margin


class PositionError(RetrievalError, ValueError):
    """The position of a photo cannot be read, is out of range, or does not fit those of the other photos."""


@dataclass(frozen=True)
class Position:
    """The position of a photo.

    Attributes:
        east: metres to the east, or the longitude in degrees.
        north: metres to the north, or the latitude in degrees.
        system: the system of coordinates, see the module.
        panorama: name of the panorama that the photo was cut from; "" if there is none.
        degrees: latitude and longitude where they are stated besides UTM coordinates; only compared with these.
    """

    east: float
    north: float
    system: str = ""
    panorama: str = ""
    degrees: tuple[float, float] | None = None


def within(queries: np.ndarray, database: np.ndarray, radius: float = RADIUS) -> list[np.ndarray]:
    """Finds the database photos that were taken near each query.

    Args:
        queries: positions of the queries in metres, (Q, 2) or (Q, 3), as `common_frame` returns them.
        database: positions of the database photos in metres, (N, 2) or (N, 3), in the same frame as `queries`.
        radius: the largest Euclidean distance in metres; a photo at exactly this distance is included.

    Returns:
        For each query, the row numbers of its near photos in `database` as an integer array in ascending order.
    """
    order = np.argsort(database[:, 0], kind="stable")
    east = database[order, 0]
    first = np.searchsorted(east, queries[:, 0] - radius, "left")
    last = np.searchsorted(east, queries[:, 0] + radius, "right")
    near = []
    for position, start, end in zip(queries, first, last, strict=True):
        strip = order[start:end]
        distance = np.hypot.reduce(database[strip] - position, axis=1)
        near.append(np.sort(strip[distance <= radius]))
    return near


def heading_difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The angles between headings, in 0..180 degrees; NaN where a heading is NaN."""
    difference = np.abs(one - other) % 360
    return np.minimum(difference, 360 - difference)


def common_frame(positions: Sequence[Position], where: Sequence[str]) -> np.ndarray:
    """Converts positions to coordinates whose differences are distances in metres.

    Positions in one zone, or in one unknown plane, keep their coordinates, as the published datasets compare them. UTM
    metres differ from metres on the ground by at most 0.1 %. Positions in several zones, or in degrees, become points
    in space on the ellipsoid WGS84, so that a street across the border of two zones is one street. The straight line
    between two such points is shorter than the way on the ellipsoid by less than 1 mm up to 1 km.

    Args:
        positions: the positions of the N photos.
        where: for each its origin, such as the file and line that list it, for messages.

    Returns:
        (N, 2) metres east and north, or (N, 3) metres from the centre of the earth.

    Raises:
        PositionError: a position is 0, 0 among others on the earth, cannot be compared with the others, contradicts the
            latitude and longitude stated with it, or seems to have its two numbers swapped.
    """
    table = np.array([(one.east, one.north) for one in positions], np.float64).reshape(-1, 2)
    systems = np.array([one.system for one in positions], np.str_)
    _check_plane(table, systems, where)
    _check_swapped(table, systems, where)
    _check_systems(systems, where)
    _check_stated(positions, table, systems, where)
    kinds = set(systems.tolist())
    return _in_space(_latitude_longitude(table, systems)) if len(kinds) > 1 or DEGREES in kinds else table


def positions_in_names(paths: Sequence[str], folder: Path) -> list[Position]:
    """Reads the positions in photos' names, @east@north@zone@letter@latitude@longitude@panorama@..

    Zone and letter count; latitude and longitude, which may be empty, are only compared with east and north, or replace
    them where these are empty.

    Args:
        paths: the paths of the photos, relative to the folder.
        folder: the folder of the photos, for messages.

    Raises:
        PositionError: a name has no position, or one that is out of range.
    """
    return [_position_in_name(path, folder) for path in paths]


def _position_in_name(path: str, folder: Path) -> Position:
    *fields, _ = PurePosixPath(path).name.split("@")  # the last is the suffix
    fields += [""] * (_PANORAMA + 1 - len(fields))
    where, panorama = f"{named(folder)}/{path}", fields[_PANORAMA]
    stated: tuple[float, float] | None
    try:
        stated = _SMALL.read(fields[_LATITUDE]), _SMALL.read(fields[_LONGITUDE])
    except NumberError:
        stated = None
    if stated and not fields[_EAST] and not fields[_NORTH]:
        return checked_position(Position(stated[1], stated[0], DEGREES, panorama), where)
    try:
        east, north = _LARGE.read(fields[_EAST]), _LARGE.read(fields[_NORTH])
    except NumberError:
        raise PositionError(
            f"{where}: no position in the name (@east@north@zone@letter@...@.jpg): rename it, or list positions in a "
            "CSV file"
        ) from None
    zoned = _ZONE_NUMBER.fullmatch(fields[_ZONE].strip().upper())  # other programs may put other things there
    system = utm_system(fields[_ZONE], fields[_LETTER], "", north, where) if zoned else ""
    if stated and not system:
        system = _zone_of(*stated)
    elif stated and system.isdigit():
        system += "S" if stated[0] < 0 else "N"
    return checked_position(Position(east, north, system, panorama, stated), where)


def checked_position(position: Position, where: str) -> Position:
    """Checks a position by itself.

    Args:
        position: the position.
        where: the photo or line, for the message.

    Returns:
        The position.

    Raises:
        PositionError: a number is not finite or out of range, or the position is 0, 0 on the earth.
    """
    east, north, system = position.east, position.north, position.system
    if not (math.isfinite(east) and math.isfinite(north)):
        raise PositionError(f"{where}: the position {east}, {north} is not finite")
    if system and east == north == 0:
        raise PositionError(f"{where}: the position is 0, 0, which stands for a missing one: remove it or correct it")
    if system == DEGREES:
        if abs(north) > 90 or abs(east) > 180:
            swapped = " (are latitude and longitude swapped?)" if abs(east) <= 90 and abs(north) <= 180 else ""
            raise PositionError(
                f"{where}: latitude must be in -90..90 and longitude in -180..180, got {north:g}, {east:g}{swapped}"
            )
    elif system:
        if not (100_000 <= east < 1_000_000 and 0 <= north <= 10_000_000):
            swapped = " (are they swapped?)" if 100_000 <= north < 1_000_000 <= east <= 10_000_000 else ""
            raise PositionError(
                f"{where}: east must be in 100000..999999 and north in 0..10000000 in UTM zone {system}, got {east:g}, "
                f"{north:g}{swapped}"
            )
    elif max(abs(east), abs(north)) > _WEB_MERCATOR:
        raise PositionError(f"{where}: the position {east:g}, {north:g} is out of range: east and north are in metres")
    return position


def utm_system(zone: str, letter: str, hemisphere: str, north: float, where: str) -> str:
    """Reads a UTM zone.

    Args:
        zone: the zone, such as 31, 31U, 31N, UTM 31 N or EPSG:32631; "" if there is none.
        letter: the latitude band C..X, of which N..X are in the north, or the word north or south; may be "".
        hemisphere: N or S, or the word; may be "".
        north: metres north, to tell the band S, which is in the north, from S for south.
        where: the photo or line, for messages.

    Returns:
        The zone and N or S, such as "31N"; without N or S if the hemisphere is not stated; "" without a zone.

    Raises:
        PositionError: zone, letter or hemisphere cannot be read, or they contradict each other.
    """
    zone, letter, hemisphere = (text.strip().upper() for text in (zone, letter, hemisphere))
    if not zone:
        if letter or hemisphere:
            raise PositionError(f"{where}: there is a letter or hemisphere, and no UTM zone: add the zone, 1..60")
        return ""
    if code := _EPSG.fullmatch(zone.replace(" ", "")):
        number, found = int(code[2]), {"S" if code[1] == "327" else "N"}
    elif match := _ZONE_NUMBER.fullmatch(zone.removesuffix(".0")):
        number = int(match[1])
        found = {_hemisphere(match[2], north, where)} if match[2] else set()
    else:
        raise PositionError(f"{where}: {zone!r} is not a UTM zone such as 31, 31U or EPSG:32631")
    if not 1 <= number <= 60:
        raise PositionError(f"{where}: the UTM zone must be in 1..60, got {number}")
    if letter:
        found.add(_hemisphere(letter, north, where))
    if hemisphere:
        if hemisphere[0] not in "NS":
            raise PositionError(f"{where}: the hemisphere must be N or S, got {hemisphere!r}")
        found.add(hemisphere[0])
    if len(found) > 1:
        raise PositionError(f"{where}: zone {zone}, letter {letter or '-'} and hemisphere {hemisphere or '-'} differ")
    return f"{number}{''.join(found)}"


def _hemisphere(letter: str, north: float, where: str) -> str:
    if letter in ("NORTH", "SOUTH"):
        return letter[0]
    if len(letter) != 1 or not "C" <= letter <= "X" or letter in "IO":
        raise PositionError(f"{where}: {letter!r} is not the letter of a UTM zone, C to X")
    if letter == "S" and not _BAND_S[0] <= north <= _BAND_S[1]:
        raise PositionError(
            f"{where}: the letter S is the band from 32 to 40 degrees north, which does not fit {north:g} m north: "
            "write 'south' for the southern hemisphere"
        )
    return "N" if letter >= "N" else "S"


def _zone_of(latitude: float, longitude: float) -> str:
    import utm

    if not (-80 <= latitude <= 84 and -180 <= longitude <= 180):
        return ""
    return f"{utm.latlon_to_zone_number(latitude, longitude)}{'S' if latitude < 0 else 'N'}"


def _check_plane(table: np.ndarray, systems: np.ndarray, where: Sequence[str]) -> None:
    """Refuses 0, 0 among positions of a country's size, and degrees in columns of metres."""
    plane = np.flatnonzero(systems == "")
    zero = plane[(table[plane] == 0).all(axis=1)]
    if len(zero) and len(plane) > 1 and (len(zero) == len(plane) or np.abs(table[plane]).max() >= 100_000):
        raise PositionError(
            f"{where[zero[0]]}: the position is 0, 0, which stands for a missing one: remove it or correct it"
        )
    if len(plane) > 1 and looks_like_degrees(table[plane]):
        raise PositionError(
            f"{where[plane[0]]}: east and north are in metres, and all positions look like degrees: name the columns "
            "longitude and latitude"
        )


def looks_like_degrees(table: np.ndarray) -> bool:
    """Whether coordinates can only be longitudes and latitudes of one region: small, with decimals, close together.

    Args:
        table: (N, 2) coordinates.
    """
    longitude, latitude = np.abs(table).max(axis=0)
    spread = np.ptp(table, axis=0).max()
    decimals = (table != np.round(table, 2)).any()
    together = spread <= 2 and max(longitude, latitude) > 10 * spread > 0
    return bool(longitude <= 180 and latitude <= 90 and together and decimals)


def _check_swapped(table: np.ndarray, systems: np.ndarray, where: Sequence[str]) -> None:
    """Refuses a position that is far from the others, and among them once its two numbers are swapped."""
    for system in set(systems.tolist()):
        rows = np.flatnonzero(systems == system)
        far, near = (5.0, 1.0) if system == DEGREES else (500_000.0, 50_000.0)
        middle = np.median(table[rows], axis=0)
        away = np.abs(table[rows] - middle).max(axis=1)
        swapped = np.abs(table[rows][:, ::-1] - middle).max(axis=1)
        wrong = rows[(away > far) & (swapped < near)]
        if len(wrong):
            names = "latitude and longitude" if system == DEGREES else "east and north"
            raise PositionError(
                f"{where[wrong[0]]}: {names} seem to be swapped: this position is far from the others, and near them "
                "with the two numbers exchanged"
            )
        _warn_of_mirrored(table[rows] / near, [where[row] for row in rows.tolist()], system)


def _warn_of_mirrored(table: np.ndarray, where: Sequence[str], system: str) -> None:
    """Logs a warning if some positions are where others would be with their two numbers exchanged.

    Args:
        table: (N, 2) coordinates in units of a region.
        where: the origins of the positions.
        system: the system of coordinates.
    """
    cells, first = np.unique(np.round(table).astype(np.int64), axis=0, return_index=True)
    row_of = dict(zip(map(tuple, cells.tolist()), first.tolist(), strict=True))
    for (east, north), row in row_of.items():
        other = row_of.get((north, east))
        if other is not None and abs(east - north) > 5 and row > other:
            log.warning(
                "%s: the position is where that of %s would be with %s exchanged: is one of them swapped?",
                where[row], where[other], "latitude and longitude" if system == DEGREES else "east and north",
            )  # fmt: skip
            return


def _check_systems(systems: np.ndarray, where: Sequence[str]) -> None:
    """Refuses positions that cannot be compared with the others."""
    kinds = Counter(systems.tolist())
    if len(kinds) < 2:
        return
    for kind, missing in (("", "UTM zone"), *((kind, "hemisphere") for kind in kinds if kind.isdigit())):
        if kind in kinds:
            row = int(np.flatnonzero(systems == kind)[0])
            raise PositionError(
                f"{where[row]}: the position has no {missing}, and others are in {_listed(set(kinds) - {kind})}: they "
                f"cannot be compared without the {missing}"
            )


def _listed(kinds: set[str]) -> str:
    return ", ".join(kind if kind == DEGREES else f"zone {kind}" if kind else "a plane" for kind in sorted(kinds)[:3])


def _check_stated(positions: Sequence[Position], table: np.ndarray, systems: np.ndarray, where: Sequence[str]) -> None:
    """Refuses UTM coordinates that lie more than a degree from the latitude and longitude stated with them."""
    rows = [row for row, one in enumerate(positions) if one.degrees and one.system[-1:] in ("N", "S")]
    if not rows:
        return
    found = _latitude_longitude(table[rows], systems[rows])
    stated = np.array([positions[row].degrees for row in rows], np.float64)
    wrong = np.flatnonzero(_apart(found, stated) > 1)
    if len(wrong):
        (latitude, longitude), row = found[wrong[0]], rows[wrong[0]]
        swapped = " (which is swapped)" if _apart(found, stated[:, ::-1])[wrong[0]] <= 1 else ""
        raise PositionError(
            f"{where[row]}: east and north in zone {systems[row]} are at {latitude:.4f}, {longitude:.4f}, and the "
            f"latitude and longitude stated are {stated[wrong[0]][0]:g}, {stated[wrong[0]][1]:g}{swapped}: correct the "
            "zone or one of them"
        )


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The larger difference of latitude and longitude in degrees, also across 180°, (N,)."""
    difference = np.abs(one - other)
    return np.maximum(difference[:, 0], np.minimum(difference[:, 1], 360 - difference[:, 1]))


def _latitude_longitude(table: np.ndarray, systems: np.ndarray) -> np.ndarray:
    """Converts positions in UTM or degrees to (N, 2) latitude and longitude in degrees."""
    import utm

    found = table[:, ::-1].copy()
    for system in set(systems.tolist()) - {DEGREES}:
        rows = systems == system
        zone, northern = int(system[:-1]), system.endswith("N")
        found[rows] = np.stack(utm.to_latlon(*table[rows].T, zone, northern=northern), axis=1)
    return found


def _in_space(degrees: np.ndarray) -> np.ndarray:
    """Converts (N, 2) latitude and longitude to (N, 3) metres from the centre of the earth, on the ellipsoid WGS84."""
    latitude, longitude = np.radians(degrees).T
    eccentricity = _FLATTENING * (2 - _FLATTENING)
    radius = _AXIS / np.sqrt(1 - eccentricity * np.sin(latitude) ** 2)
    across = radius * np.cos(latitude)
    return np.stack(
        [across * np.cos(longitude), across * np.sin(longitude), radius * (1 - eccentricity) * np.sin(latitude)], axis=1
    )
