"""Datasets of place recognition: the positives of a query are the database photos taken within 25 metres of it."""

from pathlib import Path, PurePosixPath

import numpy as np

from ..files.tables import read_csv
from ..photos.positions import PositionError, checked_position, position_in_name, within
from .errors import GroundTruthError
from .ground_truth import GroundTruth, PhotoList, restrict


def places(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Datasets of place recognition such as Pittsburgh, MSLS and San Francisco, scored by recall@N within 25 m.

    Args:
        photos: the photos, in a sub-folder `database` and a sub-folder whose name starts with `queries`. Their names
            contain their positions in the usual form of place recognition: `@east@north@...@.jpg`, UTM in metres.
        gnd: a CSV file that replaces the positions in names, with the columns photo (a path below the photos' folder,
            or a name), east and north (in metres, in one UTM zone), and optionally panorama.

    Returns:
        A ground truth with protocol "recall".

    Raises:
        GroundTruthError: a folder or a position is missing.
    """
    return _places("places", photos, gnd, crops=False)


def tokyo247(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Tokyo 24/7 (Torii et al., CVPR 2015): like `places`, but the 12 crops of a panorama count as one photo.

    Crops belong to the same panorama if their names (or the CSV file) contain the same panorama name or, where they
    contain none, if their positions are equal.
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
