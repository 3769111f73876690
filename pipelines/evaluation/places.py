"""Reads datasets of place recognition, in which a query's positives are the database photos taken within 25 m of it."""

from pathlib import Path, PurePosixPath

import numpy as np

from ..files.tables import read_csv
from ..photos.positions import PositionError, checked_position, position_in_name, within
from .errors import GroundTruthError
from .ground_truth import GroundTruth, PhotoList, restrict


def places(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Makes the ground truth of a dataset of place recognition, such as Pittsburgh, MSLS or San Francisco.

    The protocol is recall@N: the share of queries for which one of the first N photos was taken within 25 m.

    Args:
        photos: the photos, in a sub-folder whose name starts with `database` and one whose name starts with `queries`.
            Without `gnd`, the names of the photos contain their UTM positions in metres, in the usual form of place
            recognition, `@east@north@...@.jpg`.
        gnd: a CSV file with the positions, which has the columns photo (a path relative to the photos' folder, or a
            name), east and north (in metres, in one UTM zone), and optionally panorama. None reads the names.

    Returns:
        A ground truth with the protocol "recall".

    Raises:
        GroundTruthError: a folder, a position or the CSV file is missing, or the CSV file is invalid.
    """
    return _places("places", photos, gnd, crops=False)


def tokyo247(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Makes the ground truth of Tokyo 24/7 (Torii et al., CVPR 2015), in which crops of a panorama count as one photo.

    The database has 12 crops of each panorama. Crops belong to the same panorama if their names, or the CSV file,
    contain the same name of a panorama or, if they contain none, if their positions are equal. Everything else is as in
    `places`.

    Args:
        photos: the photos, as for `places`.
        gnd: a CSV file with the positions, as for `places`; None reads the names of the photos.

    Returns:
        A ground truth with the protocol "recall" and the panorama of each database photo.

    Raises:
        GroundTruthError: a folder, a position or the CSV file is missing, or the CSV file is invalid.
    """
    return _places("tokyo247", photos, gnd, crops=True)


def _places(name: str, photos: PhotoList, gnd: Path | None, crops: bool) -> GroundTruth:
    database = photos.inside(_only_folder(photos, "database"))
    queries = photos.inside(_only_folder(photos, "queries"))
    if gnd is None:
        positions = _positions_in_names(photos, [*database, *queries])
        published = (len(database), len(queries))
    else:
        positions, published = _positions_in_csv(gnd, photos, database, queries)
    utm = [np.array([positions[path][:2] for path in paths], "float64").reshape(-1, 2) for paths in (database, queries)]
    panoramas = [positions[path][2] or f"{positions[path][0]} {positions[path][1]}" for path in database]
    numbers = np.unique(panoramas, return_inverse=True)[1] if crops else None
    found = within(utm[1], utm[0])
    return restrict(
        GroundTruth(name, "recall", database, queries, found, panoramas=numbers, published=published), photos
    )


def _positions_in_names(photos: PhotoList, paths: list[str]) -> dict[str, tuple[float, float, str]]:
    try:
        return {path: position_in_name(path, photos.folder) for path in paths}
    except PositionError as error:
        raise GroundTruthError(str(error)) from None


def _only_folder(photos: PhotoList, start: str) -> str:
    tops = sorted({PurePosixPath(path).parts[0] for path in photos.paths if "/" in path})
    folders = [top for top in tops if top.startswith(start)]
    if len(folders) != 1:
        have = ", ".join(folders or tops) or "none"
        raise GroundTruthError(f"{photos.folder} must contain one folder '{start}' with photos; it has: {have}")
    return folders[0]


def _positions_in_csv(
    gnd: Path, photos: PhotoList, database: list[str], queries: list[str]
) -> tuple[dict[str, tuple[float, float, str]], tuple[int, int]]:
    if not gnd.is_file():
        raise GroundTruthError(f"{gnd} does not exist: it must be a CSV file with the columns photo, east, north")
    columns, rows = read_csv(gnd)
    missing = {"photo", "east", "north"} - set(columns)
    if missing:
        raise GroundTruthError(f"{gnd} has no column {', '.join(sorted(missing))}")
    positions, absent = {}, []
    for line, row in rows:
        path = photos.find(row["photo"])
        if path in positions or not row["photo"]:
            raise GroundTruthError(f"{gnd}, line {line}: photo {row['photo']!r} is empty or occurs twice")
        position = _position_in_row(gnd, line, row)
        if path:
            positions[path] = position
        else:
            absent.append(row["photo"])
    for path in (*database, *queries):
        if path not in positions:
            raise GroundTruthError(f"{gnd} has no row for the photo {path}")
    absent_queries = sum(name.startswith("queries") for name in absent)
    return positions, (len(database) + len(absent) - absent_queries, len(queries) + absent_queries)


def _position_in_row(gnd: Path, line: int, row: dict[str, str]) -> tuple[float, float, str]:
    try:
        east, north = float(row["east"]), float(row["north"])
        return checked_position(east, north, row.get("panorama") or "", f"{gnd}, line {line}")
    except PositionError as error:
        raise GroundTruthError(str(error)) from None
    except (ValueError, TypeError):
        raise GroundTruthError(f"{gnd}, line {line}: east and north must be numbers") from None
