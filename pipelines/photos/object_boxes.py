"""Reads and writes bounding boxes of objects in photos as boxes.json.

The command `keras-retrieval clean` writes boxes.json, and `keras-retrieval train-proposals` trains region proposals on
the boxes. The format is:

    {"version": 1, "photos": {"church/01.jpg": [[left, top, right, bottom], ..], ..}}

Coordinates are in pixels of the photo at full size after its EXIF orientation is applied. x points right and y down.
The coordinate (0, 0) is the top left corner of the first pixel, not its centre.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import RetrievalError

from ..files.durable import write_file
from .formats import is_text

VERSION = 1
SCENE = "scene.json"  # written by `sample-photos`, with exact boxes


class BoxesError(RetrievalError, ValueError):
    """Bounding boxes cannot be read or are not valid. The message names the file and the photo."""


def read_boxes(source: Path) -> dict[str, np.ndarray]:
    """Reads the bounding boxes of photos.

    Args:
        source: the path of boxes.json, or a folder that `keras-retrieval sample-photos` wrote, or scene.json in such a
            folder.

    Returns:
        A dict that maps the name of each photo to its n boxes, (n, 4) float64: left, top, right, bottom in pixels. n
        may be 0.

    Raises:
        BoxesError: the file does not exist, cannot be read, has a newer layout or does not contain boxes; or a box has
            no area or a coordinate that is not finite.
    """
    path = source / SCENE if source.is_dir() else source
    if not path.is_file():
        raise BoxesError(
            f"{path} does not exist: give boxes.json, or a folder that `keras-retrieval sample-photos` wrote"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise BoxesError(f"{path} cannot be read as boxes: {error}") from error
    photos = _photos(content, path)
    for name in photos:
        if not is_text(name):
            raise BoxesError(f"{path}: the name {name!r:.80} is not valid text")
    return {name: _array(boxes, name, path) for name, boxes in photos.items()}


def write_boxes(path: Path, boxes: Mapping[str, Any]) -> Path:
    """Writes bounding boxes as boxes.json, with coordinates rounded to 0.01 pixels.

    Args:
        path: the path of the file, which is written atomically.
        boxes: maps the name of each photo to its n boxes, (n, 4): left, top, right, bottom in pixels.

    Returns:
        The argument `path`.

    Raises:
        BoxesError: a box has no area or a coordinate that is not finite.
        OSError: the file cannot be written.
    """
    photos = {name: _array(rows, name, path).round(2).tolist() for name, rows in boxes.items()}
    write_file(path, json.dumps({"version": VERSION, "photos": photos}, ensure_ascii=False))
    return path


def _photos(content: Any, path: Path) -> dict[str, Any]:
    """Maps the name of each photo to its boxes, from the content of boxes.json or scene.json."""
    if isinstance(content, dict) and isinstance(content.get("buildings"), list):
        try:
            return {
                str(photo["name"]): [photo["box"]] for building in content["buildings"] for photo in building["photos"]
            }
        except (TypeError, KeyError) as error:
            raise BoxesError(f"{path} is not a file of `keras-retrieval sample-photos`: it lacks {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("photos"), dict):
        raise BoxesError(
            f'{path} contains no boxes; expected {{"version": {VERSION}, "photos": {{NAME: [[l, t, r, b], ..]}}}}'
        )
    if content.get("version") != VERSION:
        raise BoxesError(
            f"{path} has layout {content.get('version')!r}, and this keras-retrieval reads {VERSION}: "
            "update with pip install -U keras-retrieval"
        )
    return content["photos"]


def _array(boxes: Any, name: str, path: Path) -> np.ndarray:
    try:
        rows = np.array(boxes, np.float64).reshape(-1, 4) if len(boxes) else np.zeros((0, 4))
        fits = all(len(box) == 4 for box in boxes)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise BoxesError(f"{path}: the boxes of {name} must be lists of left, top, right, bottom, not {boxes!r:.80}")
    wrong = ~np.isfinite(rows).all(axis=1) | (rows[:, 2:] <= rows[:, :2]).any(axis=1)
    if wrong.any():
        raise BoxesError(f"{path}: a box of {name} is empty or not finite: {rows[wrong][0].tolist()}")
    return rows
