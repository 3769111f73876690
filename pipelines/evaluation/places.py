"""Reads datasets of place recognition, in which a query's positives are the database photos taken within 25 m of it."""

import logging
from pathlib import Path, PurePosixPath

import numpy as np

from ..files.name_join import PHOTO_SYNONYMS, JoinError, PhotoNames, join_rows
from ..files.tables import TableError, read_csv
from ..photos.position_table import COLUMNS, read_positions
from ..photos.positions import Position, PositionError, common_frame, positions_in_names, within
from .errors import GroundTruthError
from .ground_truth import GroundTruth, PhotoList, restrict

log = logging.getLogger("keras_retrieval")

_Found = tuple[list[Position], list[str], tuple[int, int]]  # positions, their origins, photos and queries published


def places(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Makes the ground truth of a dataset of place recognition, such as Pittsburgh, MSLS or San Francisco.

    The protocol is recall@N: the share of queries for which one of the first N photos was taken within 25 m.

    Args:
        photos: the photos, in a sub-folder whose name starts with `database` and one whose name starts with `queries`.
            Without `gnd`, the names of the photos contain their UTM positions in metres, in the usual form of place
            recognition, `@east@north@zone@letter@...@.jpg`.
        gnd: a CSV file with the positions, which has the columns photo (a path relative to the photos' folder, or a
            name) and either east and north in metres (with the UTM zone if there are several) or latitude and longitude
            in degrees, and optionally panorama. None reads the names.

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
    paths = [*database, *queries]
    try:
        positions, where, published = _in_names(photos, paths) if gnd is None else _in_csv(gnd, photos, paths)
        spots = common_frame(positions, where)
    except (JoinError, PositionError, TableError) as error:
        raise GroundTruthError(str(error)) from error
    count = len(database)
    panoramas = [one.panorama or f"{one.east} {one.north} {one.system}" for one in positions[:count]]
    numbers = np.unique(panoramas, return_inverse=True)[1] if crops else None
    found = within(spots[count:], spots[:count])
    return restrict(
        GroundTruth(name, "recall", database, queries, found, panoramas=numbers, published=published), photos
    )


def _in_names(photos: PhotoList, paths: list[str]) -> _Found:
    positions = positions_in_names(paths, photos.folder)
    queries = sum(path.startswith("queries") for path in paths)
    return positions, [str(photos.folder / path) for path in paths], (len(paths) - queries, queries)


def _only_folder(photos: PhotoList, start: str) -> str:
    tops = sorted({PurePosixPath(path).parts[0] for path in photos.paths if "/" in path})
    folders = [top for top in tops if top.startswith(start)]
    if len(folders) != 1:
        have = ", ".join(folders or tops) or "none"
        raise GroundTruthError(f"{photos.folder} must contain one folder '{start}' with photos; it has: {have}")
    return folders[0]


def _in_csv(gnd: Path, photos: PhotoList, paths: list[str]) -> _Found:
    """The positions of photos in a table, which must have a row for each of them."""
    if not gnd.is_file():
        raise GroundTruthError(f"{gnd} does not exist: it must be a CSV file with the columns {COLUMNS}")
    table = read_csv(gnd)
    column = table.column("photo", PHOTO_SYNONYMS)
    if column is None:
        raise table.no_columns(COLUMNS)
    names = [row.cells[column] for row in table.rows]
    lines = [table.where(row.line) for row in table.rows]
    for name, line in zip(names, lines, strict=True):
        if not name.strip():
            raise GroundTruthError(f"{line}: {column} is empty")
    positions = read_positions(table)
    join = join_rows(gnd, names, PhotoNames(paths), lines.__getitem__)
    row_of = {photo: row for row, photo in enumerate(join.photos) if photo >= 0}
    if len(row_of) < len(paths):
        raise GroundTruthError(f"{join.report}: add the missing rows, or move these photos away")
    (log.info if join.complete else log.warning)(join.report)
    absent = [name for name, photo in zip(names, join.photos, strict=True) if photo < 0 and not photos.find(name)]
    absent_queries = sum(name.startswith("queries") for name in absent)
    queries = sum(path.startswith("queries") for path in paths)
    published = len(paths) - queries + len(absent) - absent_queries, queries + absent_queries
    rows = [row_of[photo] for photo in range(len(paths))]
    return [positions[row] for row in rows], [lines[row] for row in rows], published
