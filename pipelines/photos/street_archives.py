"""Reads photos, positions and headings from the archives of Mapillary SLS and GSV-Cities, as they are unpacked.

- Mapillary Street-Level Sequences (Warburg et al. CVPR 2020): train_val/CITY/query and database, each with the folder
  images and the tables raw.csv, postprocessed.csv and subtask_index.csv
- GSV-Cities (Ali-bey et al. Neurocomputing 2022): Images/CITY/CITY_PLACE_YEAR_MONTH_NORTHDEG_LAT_LON_PANORAMA.JPG and
  Dataframes/CITY.csv
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from keras_retrieval.errors import printable

from ..files.number_text import NumberError, NumberReader
from ..files.tables import Table, read_csv
from .positions import PositionError

MSLS_SUBSETS = ("all", "s2w", "w2s", "o2n", "n2o", "d2n", "n2d")
"""The subsets of Mapillary SLS: all, summer to winter, winter to summer, old to new, new to old, day to night, .."""
MSLS_VALIDATION = ("cph", "sf")
"""The folders of the two cities on which networks are validated: Copenhagen and San Francisco."""
HEADING = 40.0
"""The largest difference of two headings in degrees at which photos can show the same (Warburg et al. CVPR 2020)."""

_GSV = re.compile(
    r"(?P<city>.+)_(?P<place>\d+)_(?P<year>\d{4})_(?P<month>\d{1,2})_(?P<northdeg>\d{1,3})"
    r"_(?P<lat>-?\d+(?:\.\d+)?)_(?P<lon>-?\d+(?:\.\d+)?)_(?P<panoid>.+)"
)
_GSV_COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
_PLACES = 10**5  # place numbers of a city are below it; some copies of the tables add a multiple of it for the city


@dataclass(frozen=True)
class StreetPhotos:
    """Photos of a street-level archive.

    Attributes:
        names: their names, relative to the folder of the archive, with / as the separator; some may not exist.
        spots: (n, 2) positions in metres, which are compared within one city.
        headings: (n,) directions of the camera in degrees clockwise from north; NaN if unknown.
        where: for each the file and line that list it, for messages.
    """

    names: list[str]
    spots: np.ndarray
    headings: np.ndarray
    where: list[str]


def msls_cities(folder: Path) -> dict[str, Path]:
    """Finds the cities of Mapillary SLS.

    Args:
        folder: the folder into which the archives were unpacked, or its folder train_val or test.

    Returns:
        A dict from the name of each city to its folder; empty if the folder has none.
    """
    found: dict[str, Path] = {}
    for parent in (folder / "test", folder / "train_val", folder):
        for city in sorted(parent.iterdir()) if parent.is_dir() else ():
            if (city / "query").is_dir() and (city / "database" / "raw.csv").is_file():
                found[city.name] = city
    return dict(sorted(found.items()))


def read_msls(root: Path, part: Path, subset: str | None) -> StreetPhotos:
    """Reads the queries or the database of one city of Mapillary SLS. Panoramas are left out.

    Args:
        root: the folder that names of photos are relative to.
        part: the folder query or database of the city, below `root`.
        subset: one of `MSLS_SUBSETS`, to read only the photos that subtask_index.csv marks; None for all photos.

    Raises:
        PositionError: a table or a row of a table is missing, or a cell is not a number.
        TableError: a file is not a table.
    """
    tables = {}
    for name in ("raw.csv", "postprocessed.csv", *(["subtask_index.csv"] if subset else [])):
        if not (part / name).is_file():
            raise PositionError(
                f"{part / name} does not exist: it is in the archive metadata.zip of Mapillary SLS, which has the "
                "positions of all cities but those of the test"
            )
        tables[name] = read_csv(part / name)
    wanted: dict[str, tuple[str, ...]] = {
        "raw.csv": ("key", "ca", "pano"),
        "postprocessed.csv": ("key", "easting", "northing"),
    }
    if subset:
        wanted["subtask_index.csv"] = ("key", subset)
    by_key = {name: _by_key(_with_keys(table, tables["raw.csv"]), wanted[name]) for name, table in tables.items()}
    number, names, spots, headings, where = NumberReader(()), [], [], [], []
    for line, row in by_key["postprocessed.csv"].values():
        place, key = f"{part / 'postprocessed.csv'}, line {line}", row["key"]
        absent = [name for name, rows in by_key.items() if key not in rows]
        if absent:
            raise PositionError(
                f"{place}: {printable(key)} has no row in {part / absent[0]}: unpack metadata.zip again"
            )
        raw = by_key["raw.csv"][key][1]
        if _true(raw["pano"]) or (subset and not _true(by_key["subtask_index.csv"][key][1][subset])):
            continue
        try:
            spots.append((number.read(row["easting"]), number.read(row["northing"])))
        except NumberError as error:
            raise PositionError(f"{place}: easting and northing must be numbers: {error}") from error
        names.append((part / "images" / f"{key}.jpg").relative_to(root).as_posix())
        headings.append(_degrees(raw["ca"]))
        where.append(place)
    return StreetPhotos(names, np.array(spots, float).reshape(-1, 2), np.array(headings, float), where)


def _with_keys(table: Table, raw: Table) -> Table:
    """A table without keys, whose rows stand for those of raw.csv in their order, with the keys of raw.csv."""
    if "key" in table.columns or "key" not in raw.columns:
        return table
    if len(table.rows) != len(raw.rows):
        raise PositionError(
            f"{table.path} has no column key, and {len(table.rows):,} rows for the {len(raw.rows):,} of "
            f"{raw.path.name}: unpack metadata.zip again"
        )
    rows = [
        row._replace(cells=row.cells | {"key": one.cells["key"]}) for row, one in zip(table.rows, raw.rows, strict=True)
    ]
    return replace(table, columns=[*table.columns, "key"], rows=rows)


def _by_key(table: Table, columns: Sequence[str]) -> dict[str, tuple[int, dict[str, str]]]:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise PositionError(f"{table.path} has no column {', '.join(missing)}: it is not a table of Mapillary SLS")
    return {row.cells["key"]: (row.line, row.cells) for row in table.rows}


def _true(cell: str) -> bool:
    return cell.strip().lower() in ("true", "1", "1.0")


def _degrees(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


@dataclass(frozen=True)
class GsvPhotos:
    """Photos of GSV-Cities.

    Attributes:
        names: their names, relative to the folder of the archive.
        places: for each the place that it shows, such as "Boston 12".
        degrees: (n, 2) latitude and longitude in degrees.
        account: one sentence about the photos that were taken and those that are missing or not listed.
    """

    names: list[str]
    places: list[str]
    degrees: np.ndarray
    account: str


def is_gsv_cities(folder: Path) -> bool:
    """Whether a folder has the layout of GSV-Cities, with the folders Images and Dataframes."""
    return (folder / "Images").is_dir() and next((folder / "Dataframes").glob("*.csv"), None) is not None


def read_gsv_cities(folder: Path, names: Iterable[str]) -> GsvPhotos:
    """Reads the photos of GSV-Cities that the tables in the folder Dataframes list and that exist.

    Args:
        folder: the folder with the folders Images and Dataframes.
        names: the names of the photos below `folder`.

    Raises:
        PositionError: a table lacks a column, a cell is not a number, or no listed photo exists.
        TableError: a file is not a table.
    """
    listed: dict[tuple[str, int, str, int, int, int], tuple[float, float]] = {}
    for path in sorted((folder / "Dataframes").glob("*.csv")):
        table = read_csv(path)
        missing = [column for column in _GSV_COLUMNS if column not in table.columns]
        if missing:
            raise PositionError(f"{path} has no column {', '.join(missing)}: it is not a table of GSV-Cities")
        for row in table.rows:
            cell = row.cells
            try:
                place, year, month, angle = (int(cell[one]) for one in ("place_id", "year", "month", "northdeg"))
                spot = float(cell["lat"]), float(cell["lon"])
            except ValueError as error:
                raise PositionError(f"{table.where(row.line)}: {error}") from error
            listed[cell["city_id"], place % _PLACES, cell["panoid"], year, month, angle] = spot
    taken: dict[str, tuple[str, tuple[float, float]]] = {}
    unlisted = []
    found = set()
    for name in sorted(names):
        parts = _GSV.fullmatch(PurePosixPath(name).stem)
        key = parts and (
            parts["city"], int(parts["place"]), parts["panoid"],
            int(parts["year"]), int(parts["month"]), int(parts["northdeg"]),
        )  # fmt: skip
        if key is None or key not in listed or not name.startswith("Images/"):
            unlisted.append(name)
            continue
        found.add(key)
        taken[name] = (f"{key[0]} {key[1]}", listed[key])
    if not taken:
        raise PositionError(
            f"{folder} has none of the {len(listed):,} photos that its tables list, such as Images/Boston/"
            "Boston_0000001_2015_07_112_42.3_-71.0_PANORAMA.JPG"
        )
    account = f"{folder}: GSV-Cities, {len(taken):,} of {len(listed):,} listed photos"
    account += f"; {len(unlisted):,} photos that are not listed left out, such as {unlisted[0]}" if unlisted else ""
    degrees = np.array([spot for _, spot in taken.values()], float)
    return GsvPhotos(list(taken), [place for place, _ in taken.values()], degrees, account)
