"""Reads datasets of place recognition, in which a query's positives are the database photos taken within 25 m of it."""

import logging
from pathlib import Path, PurePosixPath

import numpy as np

from ..files.name_join import PHOTO_SYNONYMS, JoinError, PhotoNames, join_rows
from ..files.tables import TableError, read_csv
from ..photos.position_table import COLUMNS, read_positions
from ..photos.positions import (
    DEGREES,
    Position,
    PositionError,
    checked_position,
    common_frame,
    positions_in_names,
    within,
)
from .errors import GroundTruthError
from .ground_truth import GroundTruth, PhotoList, restrict
from .place_archives import find_struct, tokyo247_struct

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
        photos: the photos, as for `places`, or in the published layout, 03814/PANORAMA_012_30.png and
            247query_subset_v2/00001.jpg.
        gnd: tokyo247.mat, which needs scipy (extra `matlab`), or a CSV file with the positions, as for `places`. None
            looks for tokyo247.mat in the photos' folder, its folder datasets, and beside it, and otherwise reads the
            names of the photos and, for queries without a position in the name, the CSV files beside them.

    Returns:
        A ground truth with the protocol "recall" and the panorama of each database photo.

    Raises:
        GroundTruthError: a folder, a position or the CSV file is missing, or the CSV file is invalid.
    """
    path = find_struct(photos, gnd, ("tokyo247.mat",)) if gnd is None or gnd.suffix.lower() == ".mat" else None
    if path is not None:
        return tokyo247_struct(photos, path)
    folders = {PurePosixPath(one).parts[0] for one in photos.paths if "/" in one}
    if gnd is None and any(one.startswith("247query") for one in folders) and "database" not in folders:
        raise GroundTruthError(
            f"there is no tokyo247.mat in or beside {photos.folder}, which has the positions of the database: it is "
            "published with NetVLAD; give its path as --gnd"
        )
    return _places("tokyo247", photos, gnd, crops=True)


def sfxl(photos: PhotoList, gnd: Path | None = None, variant: str = "") -> GroundTruth:
    """Makes the ground truth of San Francisco eXtra Large (Berton et al. CVPR 2022): positives are within 25 m.

    Args:
        photos: the photos in the published layout, with UTM positions in their names: the folder that contains train,
            val and test, or the folder test or val itself.
        gnd: a CSV file with the positions, as for `places`; None reads the names of the photos.
        variant: the queries: v1 (the default), v2 or another set for the folder queries_v1, queries_v2 and so on; or
            val for the validation set.

    Raises:
        GroundTruthError: a folder is missing, or the positions are missing or invalid.
    """
    name = f"sfxl:{variant}" if variant else "sfxl"
    wanted = "queries" if variant == "val" else f"queries_{variant or 'v1'}"
    folders = {parent for path in photos.paths for parent in PurePosixPath(path).parents[:-1]}
    fitting = sorted(str(folder.parent) for folder in folders if folder.name == wanted and "train" not in folder.parts)
    parents = [parent for parent in fitting if PurePosixPath(parent, "database") in folders]
    if len(parents) != 1:
        have = ", ".join(sorted(str(folder) for folder in folders if "quer" in folder.name)) or "no folder of queries"
        raise GroundTruthError(f"{photos.folder} must contain one folder '{wanted}' beside 'database'; it has {have}")
    prefix = "" if parents[0] == "." else f"{parents[0]}/"
    return _places(name, photos, gnd, crops=False, folders=(f"{prefix}database", f"{prefix}{wanted}"))


def _places(
    name: str, photos: PhotoList, gnd: Path | None, crops: bool, folders: tuple[str, str] | None = None
) -> GroundTruth:
    starts = ("queries", "247query") if crops else ("queries",)
    there, asked = folders or (_only_folder(photos, "database"), _only_folder(photos, *starts))
    database, queries = photos.inside(there), photos.inside(asked)
    try:
        if gnd is None:
            positions, where = _in_names(photos, [*database, *queries])
            published = len(database), len(queries)
        else:
            positions, where, published = _in_csv(gnd, photos, [*database, *queries])
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


def _in_names(photos: PhotoList, paths: list[str]) -> tuple[list[Position], list[str]]:
    """The positions in photos' names, or in the CSV files beside photos without one, as Tokyo 24/7's queries have."""
    beside = {path: photos.folder / PurePosixPath(path).with_suffix(".csv") for path in paths if "@" not in path}
    beside = {path: file for path, file in beside.items() if file.is_file()}
    named = iter(positions_in_names([path for path in paths if path not in beside], photos.folder))
    positions = [_in_file(beside[path]) if path in beside else next(named) for path in paths]
    return positions, [str(beside.get(path, photos.folder / path)) for path in paths]


def _in_file(file: Path) -> Position:
    """The position in a file of one line, NAME,LATITUDE,LONGITUDE,... in degrees."""
    try:
        latitude, longitude = map(float, file.read_text(encoding="utf-8-sig").splitlines()[0].split(",")[1:3])
    except (ValueError, IndexError) as error:
        raise GroundTruthError(f"{file} must have the line NAME,LATITUDE,LONGITUDE in degrees: {error}") from error
    return checked_position(Position(longitude, latitude, DEGREES), str(file))


def _only_folder(photos: PhotoList, *starts: str) -> str:
    tops = sorted({PurePosixPath(path).parts[0] for path in photos.paths if "/" in path})
    folders = [top for top in tops if top.startswith(starts)]
    if len(folders) != 1:
        have = ", ".join(folders or tops) or "none"
        raise GroundTruthError(f"{photos.folder} must contain one folder '{starts[0]}' with photos; it has: {have}")
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
