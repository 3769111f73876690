"""Reads the datasets of place recognition whose archives have layouts of their own, as they are unpacked.

| dataset | photos | positions |
|---|---|---|
| msls | train_val/CITY/query, database (Warburg et al. CVPR 2020) | raw.csv, postprocessed.csv, subtask_index.csv |
| pitts30k, pitts250k | 000, 001, .. and queries_real (Arandjelovic et al. CVPR 2016) | pitts30k_test.mat or .npz |
| tokyo247 | 03814, .. and 247query_subset_v2 (Torii et al. CVPR 2015) | tokyo247.mat, or CSV files of the queries |
| sfxl | database, queries_v1, queries_v2 (Berton et al. CVPR 2022) | in the names |
| nordland | summer, winter, .. (Suenderhauf et al. ICRA Workshop 2013) | the number of the frame |
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from keras_retrieval.errors import missing_extra

from ..files.tables import TableError
from ..photos.positions import PositionError, heading_difference, within
from ..photos.street_archives import (
    HEADING,
    MSLS_SUBSETS,
    MSLS_VALIDATION,
    msls_cities,
    read_msls,
)
from .errors import GroundTruthError
from .ground_truth import GroundTruth, PhotoList, restrict

_APART = 1e8  # more than any number of frames
_DATABASES = ("database", "ref", "reference", "gallery")


def msls(photos: PhotoList, gnd: Path | None = None, variant: str = "") -> GroundTruth:
    """Makes the ground truth of Mapillary Street-Level Sequences (Warburg et al. CVPR 2020), image to image.

    Queries are searched for in the database of their own city and the other cities together; positives are photos of
    the same city within 25 m. Panoramas are left out. As in the published evaluation, queries without positives are
    left out, so that the complete validation set has 740 queries in 18,871 photos.

    Args:
        photos: the photos in the published layout, the folder that contains train_val or train_val itself.
        gnd: must be None, because the positions are in tables beside the photos.
        variant: words separated by commas: a subset (all, s2w, w2s, o2n, n2o, d2n, n2d), "heading" to require of
            positives that the headings differ by at most 40 degrees, and cities in place of cph and sf.

    Raises:
        GroundTruthError: a word or a city is unknown, a table is missing or damaged, or no query is left.
    """
    if gnd is not None:
        raise GroundTruthError(f"--gnd {gnd}: the positions of msls are in tables in --photos: leave --gnd out")
    subset, heading, cities = _msls_variant(variant)
    have = msls_cities(photos.folder)
    wanted = cities or [city for city in MSLS_VALIDATION if city in have]
    unknown = [city for city in wanted if city not in have]
    if unknown or not wanted:
        listed = ", ".join(have) or "no city: give the folder that contains train_val"
        which = unknown[0] if unknown else " or ".join(MSLS_VALIDATION)
        raise GroundTruthError(f"{photos.folder} has no folder of msls for {which}; it has {listed}")
    database: list[str] = []
    queries: list[str] = []
    positives: list[np.ndarray] = []
    for city in wanted:
        try:
            asked, listed_photos = (
                read_msls(photos.folder, have[city] / part, subset) for part in ("query", "database")
            )
        except (PositionError, TableError) as error:
            raise GroundTruthError(str(error)) from error
        for row, near in enumerate(within(asked.spots, listed_photos.spots)):
            if heading:
                angle = heading_difference(asked.headings[row], listed_photos.headings[near])
                near = near[angle <= HEADING]
            if len(near):
                queries.append(asked.names[row])
                positives.append(near + len(database))
        database += listed_photos.names
    name = f"msls:{variant}" if variant else "msls"
    missing = [] if cities else [city for city in MSLS_VALIDATION if city not in have]
    truth = restrict(GroundTruth(name, "recall", database, queries, positives), photos, exact=True)
    return replace(truth, lacks=f"without the city {', '.join(missing)}") if missing else truth


def _msls_variant(variant: str) -> tuple[str, bool, list[str]]:
    words = [word.strip() for word in variant.split(",") if word.strip()]
    subsets = [word for word in words if word in MSLS_SUBSETS]
    if len(subsets) > 1:
        raise GroundTruthError(f"msls:{variant} names two subsets, {subsets[0]} and {subsets[1]}: give one")
    cities = [word for word in words if word not in subsets and word != "heading"]
    return (subsets or ["all"])[0], "heading" in words, cities


@dataclass(frozen=True)
class _Listed:
    """The photos and positions that a file of a published dataset lists."""

    database: list[str]
    queries: list[str]
    database_spots: np.ndarray
    query_spots: np.ndarray


def pitts30k(photos: PhotoList, gnd: Path | None = None, variant: str = "") -> GroundTruth:
    """Makes the ground truth of Pittsburgh 30k (Arandjelovic et al. CVPR 2016): positives are within 25 m.

    Args:
        photos: the photos in the published layout, 000/000000_pitch1_yaw1.jpg and queries_real/000/...
        gnd: pitts30k_test.mat, which needs scipy (extra `matlab`), or an .npz file with the arrays utmDb and utmQ and
            two lists of names beside it, pitts30k_imageNames_index.txt and _query.txt. None looks for these files in
            the photos' folder, its folder datasets, and beside it.
        variant: test (the default), val or train.

    Raises:
        GroundTruthError: the file of the ground truth is missing or damaged, or none of its photos exists.
        MissingExtraError: scipy is not installed.
    """
    return _pittsburgh("pitts30k", photos, gnd, variant)


def pitts250k(photos: PhotoList, gnd: Path | None = None, variant: str = "") -> GroundTruth:
    """Makes the ground truth of Pittsburgh 250k (Arandjelovic et al. CVPR 2016); everything else is as in `pitts30k`.

    Args:
        photos: the photos, as for `pitts30k`.
        gnd: pitts250k_test.mat or an .npz file, as for `pitts30k`.
        variant: test (the default), val or train.

    Raises:
        GroundTruthError: the file of the ground truth is missing or damaged, or none of its photos exists.
        MissingExtraError: scipy is not installed.
    """
    return _pittsburgh("pitts250k", photos, gnd, variant)


def _pittsburgh(name: str, photos: PhotoList, gnd: Path | None, variant: str) -> GroundTruth:
    split = variant or "test"
    if split not in ("test", "val", "train"):
        raise GroundTruthError(f"{name}:{variant} must be one of {name}, {name}:val and {name}:train")
    files = (f"{name}_{split}.mat", f"{name}_{split}.npz", f"{name}_{split}_gt.npz")
    path = find_struct(photos, gnd, files)
    if path is None:
        raise GroundTruthError(
            f"there is no {' or '.join(files)} in or beside {photos.folder}: it is published with NetVLAD; give its "
            "path as --gnd"
        )
    listed = _read_npz(path, name) if path.suffix == ".npz" else read_struct(path)
    return _within_listed(f"{name}:{variant}" if variant else name, photos, listed, "queries_real", None)


def tokyo247_struct(photos: PhotoList, path: Path) -> GroundTruth:
    """Makes the ground truth of Tokyo 24/7 from tokyo247.mat, in which 12 crops of a panorama count as one photo.

    Args:
        photos: the photos in the published layout, 03814/PANORAMA_012_30.png and 247query_subset_v2/00001.jpg.
        path: the file tokyo247.mat.

    Raises:
        GroundTruthError: the file is damaged, or none of its photos exists.
        MissingExtraError: scipy is not installed.
    """
    listed = read_struct(path)
    crops = [re.sub(r"(_\d+)?_\d+$", "", PurePosixPath(name).stem) for name in listed.database]
    return _within_listed("tokyo247", photos, listed, "247query_subset_v2", np.unique(crops, return_inverse=True)[1])


def find_struct(photos: PhotoList, gnd: Path | None, files: Iterable[str]) -> Path | None:
    """Finds the file of positions of a published dataset.

    Args:
        photos: the photos that exist.
        gnd: a path given by the user; None looks for the files in the photos' folder, its folder datasets, and beside.
        files: the published names.

    Returns:
        The path, or None if `gnd` is None and there is no such file.

    Raises:
        GroundTruthError: `gnd` does not exist.
    """
    if gnd is not None:
        if not gnd.is_file():
            raise GroundTruthError(f"{gnd} does not exist")
        return gnd
    folder = photos.folder
    places = (folder, folder / "datasets", folder.parent, folder.parent / "datasets", folder.parent / "gnd")
    return next((place / name for place in places for name in files if (place / name).is_file()), None)


def read_struct(path: Path) -> _Listed:
    """Reads the struct `dbStruct` of a MATLAB file, as the datasets of NetVLAD are published.

    Args:
        path: the .mat file.

    Raises:
        GroundTruthError: the file is not a MATLAB file of version 5 to 7, or has no such struct.
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise missing_extra("SciPy, which reads MATLAB files,", "matlab", error) from error
    try:
        struct = loadmat(path, squeeze_me=True, struct_as_record=False, variable_names=["dbStruct"])["dbStruct"]
        names = [np.atleast_1d(getattr(struct, one)).tolist() for one in ("dbImageFns", "qImageFns")]
        spots = [np.asarray(getattr(struct, one), float) for one in ("utmDb", "utmQ")]
    except Exception as error:  # scipy raises many kinds of errors for damaged files
        raise GroundTruthError(
            f"{path} is not a MATLAB file with a struct dbStruct ({str(error)[:100]}): download it again, or give an "
            ".npz file"
        ) from error
    columns = [table.reshape(2, -1).T for table in spots]
    return _checked(path, names[0], names[1], columns[0], columns[1])


def _read_npz(path: Path, name: str) -> _Listed:
    lists = []
    for role in ("index", "query"):
        file = f"{name}_imageNames_{role}.txt"
        places = (path.parent, path.parent.parent, path.parent.parent / "dataset_imagenames")
        found = next((place / file for place in places if (place / file).is_file()), None)
        if found is None:
            raise GroundTruthError(f"{path} has positions without names: put the list {file} beside it")
        lists.append([line.strip() for line in found.read_text(encoding="utf-8").splitlines() if line.strip()])
    try:
        with np.load(path, allow_pickle=False) as stored:
            spots = [np.asarray(stored[one], float).reshape(-1, 2) for one in ("utmDb", "utmQ")]
    except Exception as error:  # numpy and zipfile raise many kinds of errors for damaged files
        raise GroundTruthError(f"{path} is not an .npz file with utmDb and utmQ: {error}") from error
    short = [["/".join(PurePosixPath(one).parts[-2:]) for one in names] for names in lists]
    return _checked(path, short[0], short[1], spots[0], spots[1])


def _checked(
    path: Path, database: Sequence[str], queries: Sequence[str], database_spots: np.ndarray, query_spots: np.ndarray
) -> _Listed:
    for what, names, spots in (("database", database, database_spots), ("queries", queries, query_spots)):
        if len(names) != len(spots) or not np.isfinite(spots).all():
            raise GroundTruthError(f"{path}: {len(names):,} photos of the {what} have {len(spots):,} positions")
    return _Listed([str(one) for one in database], [str(one) for one in queries], database_spots, query_spots)


def _within_listed(
    name: str, photos: PhotoList, listed: _Listed, query_folder: str, panoramas: np.ndarray | None
) -> GroundTruth:
    of_queries = [any("quer" in part for part in PurePosixPath(path).parts[:-1]) for path in photos.paths]
    there = [path for path, is_query in zip(photos.paths, of_queries, strict=True) if not is_query]
    asked = [path for path, is_query in zip(photos.paths, of_queries, strict=True) if is_query]
    truth = GroundTruth(
        name,
        "recall",
        _paths_of(photos, there, listed.database, "database"),
        _paths_of(photos, asked, listed.queries, query_folder),
        within(listed.query_spots, listed.database_spots),
        panoramas=panoramas,
    )
    return restrict(truth, photos, exact=True)


def _paths_of(photos: PhotoList, paths: Sequence[str], names: Sequence[str], folder: str) -> list[str]:
    """The path of each listed photo, which ends as the name but for the suffix; missing ones get an absent path."""
    tails: dict[int, dict[str, str]] = {}
    for length in {len(PurePosixPath(name).parts) for name in names}:
        found = tails[length] = {}
        for path in paths:
            tail = "/".join(PurePosixPath(path).with_suffix("").parts[-length:])
            if found.setdefault(tail, path) != path:
                raise GroundTruthError(f"{photos.folder} contains {tail} twice: {found[tail]} and {path}")
    return [
        tails[len(pure.parts)].get(pure.with_suffix("").as_posix(), f"{folder}/{name}")
        for name in names
        for pure in (PurePosixPath(name),)
    ]


def nordland(photos: PhotoList, gnd: Path | None = None, variant: str = "") -> GroundTruth:
    """Makes the ground truth of Nordland (Suenderhauf et al. ICRA Workshop 2013): one railway in four seasons.

    The frame of a photo is the last number in its name. With the list cleanImageNames.txt of Hausler et al. (CVPR
    2021), only the listed frames are used, and they are numbered in its order. Positives are the database's frames at
    a distance of at most 1 frame, or of the number in `variant`. Frames in different folders below those of the
    seasons, such as section1 and section2, are of different places.

    Args:
        photos: the photos, in folders named after seasons, such as summer and winter, or database and queries.
        gnd: the list of frames; None looks for cleanImageNames.txt in the photos' folder and beside it.
        variant: words separated by commas: the number of frames, such as 10, and two seasons QUERIES-DATABASE, such as
            summer-winter. Without seasons, queries are winter's and the database is summer's.

    Raises:
        GroundTruthError: a word or folder is unknown, a photo's name has no number, or no photo is left.
    """
    frames, query_names, database_names = _nordland_variant(variant)
    database, queries = (
        _folder_of(photos, names, role) for names, role in ((database_names, "database"), (query_names, "queries"))
    )
    path = find_struct(photos, gnd, ("cleanImageNames.txt",))
    order: dict[str, int] = {}
    if path is not None:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        order = {PurePosixPath(line).stem: row for row, line in enumerate(filter(None, lines))}
    found: list[list[tuple[int, str, str]]] = []  # frame, folder below that of the season, path
    for folder in (database, queries):
        numbered = [(_frame(photos, one, order), one) for one in photos.inside(folder)]
        below = len(folder) + 1
        found.append(
            sorted((frame, one[below:].rpartition("/")[0], one) for frame, one in numbered if frame is not None)
        )
        if not found[-1]:
            raise GroundTruthError(f"{photos.folder / folder} has none of the {len(order):,} frames that {path} lists")
    sections = {section: row for row, section in enumerate(sorted({one for part in found for _, one, _ in part}))}
    spots = [np.array([[frame, _APART * sections[section]] for frame, section, _ in part], float) for part in found]
    published = (len(order), len(order)) if order else (0, 0)
    return restrict(
        GroundTruth(
            f"nordland:{variant}" if variant else "nordland",
            "recall",
            [one for *_, one in found[0]],
            [one for *_, one in found[1]],
            within(spots[1], spots[0], frames),
            published=published,
        ),
        photos,
        exact=True,
    )


def _nordland_variant(variant: str) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    frames = 1
    queries: tuple[str, ...] = ("queries", "query", "winter")
    database: tuple[str, ...] = (*_DATABASES, "summer")
    for word in filter(None, (word.strip() for word in variant.split(","))):
        one, dash, other = word.partition("-")
        if word.isdigit():
            frames = int(word)
        elif dash and one and other:
            queries, database = (one,), (other,)
        else:
            raise GroundTruthError(f"nordland:{variant}: '{word}' is neither a number of frames nor QUERIES-DATABASE")
    return frames, queries, database


def _folder_of(photos: PhotoList, names: Sequence[str], role: str) -> str:
    """The folder, at any depth, of one of the names: as a whole, or its beginning up to _ or a space."""
    folders = sorted({str(parent) for path in photos.paths for parent in PurePosixPath(path).parents[:-1]})
    for name in names:
        wanted = re.compile(rf"{re.escape(name)}([_ -].*)?", re.IGNORECASE)
        fitting = [folder for folder in folders if wanted.fullmatch(PurePosixPath(folder).name)]
        if len(fitting) > 1:
            raise GroundTruthError(f"{photos.folder} has several folders '{name}': {fitting[0]} and {fitting[1]}")
        if fitting:
            return fitting[0]
    have = ", ".join(folders[:8]) or "none"
    raise GroundTruthError(f"{photos.folder} has no folder of the {role}, such as {names[-1]}; it has: {have}")


def _frame(photos: PhotoList, path: str, order: dict[str, int]) -> int | None:
    """The number of a photo's frame; None if there is a list that does not contain it."""
    stem = PurePosixPath(path).stem
    if order:
        return order.get(stem)
    fields = stem.split("@")
    number = re.search(r"(\d+)\D*$", fields[7] if len(fields) > 7 else stem)
    if number is None:
        raise GroundTruthError(f"{photos.folder / path}: there is no number of a frame in the name")
    return int(number[1])
