"""Place recognition: the answers to a query are the database photos taken within 25 metres of it."""

from pathlib import Path, PurePosixPath

import numpy as np

from ..files.tables import read_csv
from ..photos.positions import checked_position, position_in_name, within
from .ground_truth import GroundTruth, GroundTruthError, Photos, at_hand


def places(photos: Photos, gnd: Path | None = None) -> GroundTruth:
    """Pittsburgh, MSLS, San Francisco and others: recall@N at 25 m.

    Args:
        photos: with one sub-folder `database` and one whose name starts with `queries`. Names hold the position as
            the place recognition community writes it: `@east@north@...@.jpg`, UTM in metres.
        gnd: instead of positions in names, a CSV file with the columns photo (a path below the photos' folder, or a
            name), east, north in metres of one UTM zone and, if wanted, panorama.

    Returns:
        With protocol "recall".

    Raises:
        GroundTruthError: a folder or a position is missing.
    """
    return _places("places", photos, gnd, cut_outs=False)


def tokyo247(photos: Photos, gnd: Path | None = None) -> GroundTruth:
    """Tokyo 24/7 (Torii et al., CVPR 2015): as `places`, and the 12 cut-outs of a panorama count as one photo.

    Cut-outs belong together if the panorama's name in the photo's name (or the CSV) is the same; where there
    is none, if they were taken at the same spot.
    """
    return _places("tokyo247", photos, gnd, cut_outs=True)


def _places(name: str, photos: Photos, gnd: Path | None, cut_outs: bool) -> GroundTruth:
    database = photos.inside(_only_folder(photos, "database"))
    queries = photos.inside(_only_folder(photos, "queries"))
    if gnd is None:
        spots = {path: position_in_name(path, photos.folder) for path in (*database, *queries)}
        published = (len(database), len(queries))
    else:
        spots, published = _spots_in_csv(gnd, photos, database, queries)
    utm = [np.array([spots[path][:2] for path in paths], "float64").reshape(-1, 2) for paths in (database, queries)]
    panoramas = [spots[path][2] or f"{spots[path][0]} {spots[path][1]}" for path in database]
    numbers = np.unique(panoramas, return_inverse=True)[1] if cut_outs else None
    found = within(utm[1], utm[0])
    return at_hand(
        GroundTruth(name, "recall", database, queries, found, panoramas=numbers, published=published), photos
    )


def _only_folder(photos: Photos, start: str) -> str:
    tops = sorted({PurePosixPath(path).parts[0] for path in photos.paths if "/" in path})
    folders = [top for top in tops if top.startswith(start)]
    if len(folders) != 1:
        have = ", ".join(folders or tops) or "none"
        raise GroundTruthError(f"{photos.folder} must hold one folder '{start}' with photos; it has: {have}")
    return folders[0]


def _spots_in_csv(
    gnd: Path, photos: Photos, database: list[str], queries: list[str]
) -> tuple[dict[str, tuple[float, float, str]], tuple[int, int]]:
    if not gnd.is_file():
        raise GroundTruthError(f"{gnd} is missing: it should be a CSV file with the columns photo, east, north")
    columns, rows = read_csv(gnd)
    missing = {"photo", "east", "north"} - set(columns)
    if missing:
        raise GroundTruthError(f"{gnd} has no column {', '.join(sorted(missing))}")
    spots, absent = {}, []
    for line, row in rows:
        path = photos.find(row["photo"])
        if path in spots or not row["photo"]:
            raise GroundTruthError(f"{gnd}, line {line}: photo {row['photo']!r} is empty, or has a row already")
        spot = _spot_in_row(gnd, line, row)
        if path:
            spots[path] = spot
        else:
            absent.append(row["photo"])
    for path in (*database, *queries):
        if path not in spots:
            raise GroundTruthError(f"{gnd} has no row for the photo {path}")
    absent_queries = sum(name.startswith("queries") for name in absent)
    return spots, (len(database) + len(absent) - absent_queries, len(queries) + absent_queries)


def _spot_in_row(gnd: Path, line: int, row: dict[str, str]) -> tuple[float, float, str]:
    try:
        east, north = float(row["east"]), float(row["north"])
    except (ValueError, TypeError):
        raise GroundTruthError(f"{gnd}, line {line}: east and north must be numbers") from None
    return checked_position(east, north, row.get("panorama") or "", f"{gnd}, line {line}")
