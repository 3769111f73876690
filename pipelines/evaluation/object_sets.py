"""Collections where photos of one object belong together: Holidays, UKBench, sketches of objects, and a user's own."""

import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .ground_truth import Box, GroundTruth, GroundTruthError, Photos, at_hand, find_ground_truth

_HOLIDAYS = (1491, 500)
_UKBENCH = 10_200
_ANSWERS = ("positives", "hard", "junk")


def holidays(photos: Photos, gnd: Path | None = None) -> GroundTruth:
    """INRIA Holidays (Jegou et al., ECCV 2008): 1,491 photos, 500 of them queries.

    A query is dropped from its own ranking. The variant with upright photos is the same with another folder of photos.

    Args:
        photos: six digits a name; the first four are the scene, and 00 at the end is its query.
        gnd: none is needed; the names say it.

    Raises:
        GroundTruthError: there are no such names, or no query with an answer.
    """
    database = [path for path in photos.paths if re.fullmatch(r"\d{6}", PurePosixPath(path).stem)]
    scenes = np.array([int(PurePosixPath(path).stem[:4]) for path in database], "int64")
    queries = [row for row, path in enumerate(database) if PurePosixPath(path).stem.endswith("00")]
    if not queries:
        raise GroundTruthError(f"{photos.folder} holds no query of holidays, a photo such as 100000.jpg")
    answers = [np.setdiff1d(np.flatnonzero(scenes == scenes[row]), [row]) for row in queries]
    names = [database[row] for row in queries]
    return at_hand(
        GroundTruth("holidays", "map", database, names, answers, drop_query=True, published=_HOLIDAYS), photos
    )


def ukbench(photos: Photos, gnd: Path | None = None) -> GroundTruth:
    """UKBench (Nister and Stewenius, CVPR 2006): 2,550 objects, four photos each; every photo is a query.

    Args:
        photos: ukbench00000.jpg to ukbench10199.jpg, four in a row of one object; or one folder an object.
        gnd: none is needed; the names say it.

    Returns:
        With protocol "ns". An object that is not whole asks no queries, for its score could not reach four.

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
    whole = [rows for rows in objects.values() if len(rows) == 4]
    if not whole:
        raise GroundTruthError(
            f"{photos.folder} holds no four photos of one object: ukbench00000.jpg, or a folder each"
        )
    queries = sorted((row, rows) for rows in whole for row in rows)
    count = _UKBENCH if published else len(database)
    return GroundTruth(
        "ukbench",
        "ns",
        database,
        [database[row] for row, _ in queries],
        [np.array(rows, "int64") for _, rows in queries],
        published=(count, count),
    )


def flickr15k(photos: Photos, gnd: Path | None = None) -> GroundTruth:
    """Sketch-based retrieval in the layout of Flickr15k (Hu and Collomosse, CVIU 2013): mAP over the sketches.

    Args:
        photos: with the sub-folders `photos`, one folder a class in it, and `sketches`.
        gnd: a JSON file {"queries": {sketch's name without suffix: [class, ...]}}; null for a sketch not to be scored.
            By default gnd.json in the photos' folder.

    Raises:
        GroundTruthError: the file is missing or damaged, or no sketch has a photo of its classes.
    """
    path = find_ground_truth("gnd.json", photos, gnd, "no fixed place: write it, sketch -> classes, by hand")
    sketches = _read_json(path).get("queries")
    if not isinstance(sketches, dict):
        raise GroundTruthError(f"{path} holds no queries in the form sketch -> classes")
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


def own(photos: Photos, path: Path) -> GroundTruth:
    """A user's own ground truth, a JSON file.

    ```json
    {"database": ["shots/"],
     "queries": [{"photo": "query/bridge.jpg", "box": [10, 20, 300, 400],
                  "positives": ["bridge_1.jpg", "shots/bridge/"], "hard": ["night.jpg"], "junk": ["blurred.jpg"]}]}
    ```

    A photo is named by its path below the photos' folder, by its name, or by its name without suffix; a name that
    ends in / is a folder and stands for all photos in it. `database`, `box`, `hard` and `junk` may be left out: the
    database is then every photo of the folder, the box the whole photo. A box is left, top, right, bottom in pixels.
    With `hard` anywhere, the collection is scored as the revisited ones are: easy, medium and hard. A query that is
    itself in the database is taken out of its ranking. A listed photo that is not there makes the collection partial.

    Args:
        photos: the photos at hand.
        path: the JSON file.

    Raises:
        GroundTruthError: the file is not in this form; the message names the query.
    """
    return _from_queries(path.stem, path, photos, _read_json(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise GroundTruthError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise GroundTruthError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise GroundTruthError(f"{path} must hold an object with 'queries'")
    return content


def _from_queries(name: str, path: Path, photos: Photos, content: dict[str, Any]) -> GroundTruth:
    entries = content.get("queries")
    if not isinstance(entries, list) or not entries:
        raise GroundTruthError(f"{path} must hold a list 'queries' with at least one query")
    database = _expanded(content.get("database", ["./"]), photos, f"{path}, database")
    rows = {photo: row for row, photo in enumerate(database)}
    queries = [_checked_query(entry, f"{path}, query {number}") for number, entry in enumerate(entries, start=1)]
    if not database:
        raise GroundTruthError(f"{path}: the database has no photo in {photos.folder}")
    labels = {
        answer: [_rows(entry.get(answer, []), photos, rows, f"{path}, {entry['photo']}") for entry in queries]
        for answer in _ANSWERS
    }
    return at_hand(
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
        raise GroundTruthError(f"{where}: '{sorted(unknown)[0]}' is not known: photo, box, {', '.join(_ANSWERS)}")
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


def _expanded(names: Any, photos: Photos, where: str) -> list[str]:
    """Names as paths of photos, folders as all that is in them; an absent photo keeps its listed name."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise GroundTruthError(f"{where} must be a list of names")
    paths: dict[str, None] = {}
    for name in names:
        inside = photos.inside(name) if name.endswith("/") else [photos.find(name) or name]
        paths.update(dict.fromkeys(inside))
    return list(paths)


def _rows(names: Any, photos: Photos, rows: dict[str, int], where: str) -> np.ndarray:
    found = _expanded(names, photos, where)
    stranger = next((path for path in found if path not in rows and path in photos), None)
    if stranger is not None:
        raise GroundTruthError(f"{where}: {stranger} is not in the database")
    return np.unique(np.array([rows[path] for path in found if path in rows], "int64"))
