"""Reads datasets with several photos of each object: Holidays, UKBench, sketches of Flickr15k, custom datasets."""

import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .errors import GroundTruthError
from .ground_truth import Box, GroundTruth, PhotoList, find_ground_truth, restrict

_HOLIDAYS = (1491, 500)
_UKBENCH = 10_200
_ANSWERS = ("positives", "hard", "junk")


def holidays(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Makes the ground truth of INRIA Holidays (Jegou et al., ECCV 2008): 1,491 photos, of which 500 are queries.

    The protocol is mAP. A query is removed from its own ranking. For the variant with upright photos, pass the folder
    of the upright photos.

    Args:
        photos: the photos, named by six digits: the first four are the number of the scene, and the name of the scene's
            query ends in 00. Photos with other names are ignored.
        gnd: ignored, because the names of the photos contain the ground truth.

    Raises:
        GroundTruthError: no photo has such a name, or no query has a positive.
    """
    database = [path for path in photos.paths if re.fullmatch(r"\d{6}", PurePosixPath(path).stem)]
    scenes = np.array([int(PurePosixPath(path).stem[:4]) for path in database], "int64")
    queries = [row for row, path in enumerate(database) if PurePosixPath(path).stem.endswith("00")]
    if not queries:
        raise GroundTruthError(f"{photos.folder} contains no query of holidays, a photo such as 100000.jpg")
    answers = [np.setdiff1d(np.flatnonzero(scenes == scenes[row]), [row]) for row in queries]
    names = [database[row] for row in queries]
    return restrict(
        GroundTruth("holidays", "map", database, names, answers, drop_query=True, published=_HOLIDAYS), photos
    )


def ukbench(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Makes the ground truth of UKBench (Nister and Stewenius, CVPR 2006): 2,550 objects with four photos each.

    All photos are queries. The protocol is the N-S score, the mean number of photos of the query's object among the
    first four of its ranking.

    Args:
        photos: the photos ukbench00000.jpg to ukbench10199.jpg, of which four with consecutive numbers show the same
            object; or a folder with one sub-folder of photos for each object.
        gnd: ignored, because the names of the photos contain the ground truth.

    Returns:
        A ground truth with the protocol "ns". If an object does not have exactly four photos, its photos are in the
        database but are not queries, because the score assumes four photos per object.

    Raises:
        GroundTruthError: no object has four photos.
    """
    numbered = [re.fullmatch(r"ukbench(\d{5})", PurePosixPath(path).stem) for path in photos.paths]
    published = any(numbered)
    objects: dict[Any, list[int]] = defaultdict(list)
    database: list[str] = []
    for path, number in zip(photos.paths, numbered, strict=True):
        if published and not number:
            continue
        objects[int(number[1]) // 4 if number else PurePosixPath(path).parent].append(len(database))
        database.append(path)
    complete = [rows for rows in objects.values() if len(rows) == 4]
    if not complete:
        raise GroundTruthError(
            f"{photos.folder} contains no four photos of one object: ukbench00000.jpg and so on, or a folder per object"
        )
    queries = sorted((row, rows) for rows in complete for row in rows)
    count = _UKBENCH if published else len(database)
    return GroundTruth(
        "ukbench",
        "ns",
        database,
        [database[row] for row, _ in queries],
        [np.array(rows, "int64") for _, rows in queries],
        published=(count, count),
    )


def flickr15k(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Makes the ground truth of sketch-based retrieval in the layout of Flickr15k (Hu and Collomosse, CVIU 2013).

    Sketches are the queries, and photos of their classes are relevant. The protocol is mAP.

    Args:
        photos: the photos and sketches: a sub-folder `photos` with one folder per class, and a sub-folder `sketches`.
        gnd: a JSON file {"queries": {NAME: [CLASS, ...]}}, in which NAME is the name of a sketch without suffix. A
            sketch with null instead of the list is not a query. None looks for gnd.json in the photos' folder and
            beside it.

    Raises:
        GroundTruthError: the file is missing or damaged, or no sketch has a photo of its classes.
    """
    path = find_ground_truth("gnd.json", photos, gnd, "no fixed place; write it by hand as sketch -> classes")
    sketches = _read_json(path).get("queries")
    if not isinstance(sketches, dict):
        raise GroundTruthError(f"{path} must contain 'queries' as sketch -> list of classes")
    wrong = [name for name, classes in sketches.items() if not isinstance(classes, list | None)]
    if wrong:
        raise GroundTruthError(f"{path}: the classes of {wrong[0]} are {sketches[wrong[0]]!r:.80}, not a list of names")
    queries = [
        {"photo": f"sketches/{name}", "positives": [f"photos/{one}/" for one in classes]}
        for name, classes in sketches.items()
        if classes
    ]
    stems = {str(PurePosixPath(one).with_suffix("")): one for one in photos.inside("sketches")}
    for query in queries:
        query["photo"] = stems.get(str(query["photo"]), query["photo"])
    truth = _from_queries("flickr15k", path, photos, {"database": ["photos/"], "queries": queries})
    return replace(truth, sketches=True)


def custom_dataset(photos: PhotoList, path: Path) -> GroundTruth:
    """Reads the ground truth of a custom dataset from a JSON file of the following form.

    ```json
    {"database": ["shots/"],
     "queries": [{"photo": "query/bridge.jpg", "box": [10, 20, 300, 400],
                  "positives": ["bridge_1.jpg", "shots/bridge/"], "hard": ["night.jpg"], "junk": ["blurred.jpg"]}]}
    ```

    A photo is given by its path relative to the photos' folder, its name, or its name without suffix. A name that ends
    in / is a folder and stands for all photos in the folder. `database`, `box`, `hard` and `junk` are optional: by
    default the database is every photo in the photos' folder, and the box is the whole photo. A box is left, top,
    right, bottom in pixels. If any query has `hard` photos, the dataset is scored like the revisited datasets, in the
    settings easy, medium and hard; otherwise it is scored by mAP. A query that is in the database is removed from its
    own ranking. Listed photos that do not exist are left out, and the attribute `partial` of the ground truth then
    states how many photos of the database and how many queries are left.

    Args:
        photos: the photos that exist.
        path: path of the JSON file.

    Raises:
        GroundTruthError: the file does not exist or does not have this form, and the message names the query; or no
            photo or no query is left.
    """
    return _from_queries(path.stem, path, photos, _read_json(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise GroundTruthError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:
        raise GroundTruthError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise GroundTruthError(f"{path} must contain an object with 'queries'")
    return content


def _from_queries(name: str, path: Path, photos: PhotoList, content: dict[str, Any]) -> GroundTruth:
    entries = content.get("queries")
    if not isinstance(entries, list) or not entries:
        raise GroundTruthError(f"{path} must contain a list 'queries' with at least one query")
    database = _paths(content.get("database", ["./"]), photos, f"{path}, database")
    rows = {photo: row for row, photo in enumerate(database)}
    queries = [_checked_query(entry, f"{path}, query {number}") for number, entry in enumerate(entries, start=1)]
    if not database:
        raise GroundTruthError(f"{path}: no photo of the database is in {photos.folder}")
    labels = {
        answer: [_rows(entry.get(answer, []), photos, rows, f"{path}, {entry['photo']}") for entry in queries]
        for answer in _ANSWERS
    }
    return restrict(
        GroundTruth(
            name,
            "revisited" if any(map(len, labels["hard"])) else "map",
            database,
            [photos.find(entry["photo"]) or entry["photo"] for entry in queries],
            labels["positives"],
            labels["hard"],
            labels["junk"],
            boxes=[entry["box"] for entry in queries],
            drop_query=True,
        ),
        photos,
    )


def _checked_query(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("photo"), str) or "positives" not in entry:
        raise GroundTruthError(f"{where} must be an object with 'photo' and 'positives'")
    unknown = set(entry) - {"photo", "box", *_ANSWERS}
    if unknown:
        raise GroundTruthError(f"{where}: '{sorted(unknown)[0]}' is not one of photo, box, {', '.join(_ANSWERS)}")
    return entry | {"box": _box(entry.get("box"), where)}


def _box(box: Any, where: str) -> Box | None:
    if box is None:
        return None
    try:
        left, top, right, bottom = map(float, box)
    except (TypeError, ValueError):
        raise GroundTruthError(f"{where}: the box must be four numbers, not {box}") from None
    if not (left < right and top < bottom):
        raise GroundTruthError(f"{where}: the box {box} is empty: it must be left, top, right, bottom")
    return left, top, right, bottom


def _paths(names: Any, photos: PhotoList, where: str) -> list[str]:
    """Returns the paths of listed photos, and of all photos in listed folders; missing photos keep their names."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise GroundTruthError(f"{where} must be a list of names")
    paths: dict[str, None] = {}
    for name in names:
        inside = photos.inside(name) if name.endswith("/") else [photos.find(name) or name]
        paths.update(dict.fromkeys(inside))
    return list(paths)


def _rows(names: Any, photos: PhotoList, rows: dict[str, int], where: str) -> np.ndarray:
    found = _paths(names, photos, where)
    outside = next((path for path in found if path not in rows and path in photos), None)
    if outside is not None:
        raise GroundTruthError(f"{where}: {outside} is not in the database")
    return np.unique(np.array([rows[path] for path in found if path in rows], "int64"))
