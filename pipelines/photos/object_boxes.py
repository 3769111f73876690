"""Where the objects stand in photos: boxes.json, which cleaning writes and region proposals learn from.

    {"version": 1, "photos": {"church/01.jpg": [[left, top, right, bottom], ..], ..}}

A box is in pixels of the photo at full size, turned as its EXIF says; x to the right, y down, edges and not centres.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..files.durable import write_file
from .formats import is_text

VERSION = 1
SCENE = "scene.json"  # of `sample-photos`, which knows its boxes exactly


class BoxesError(ValueError):
    """Boxes cannot be read or written; the message names the file and the photo."""


def read_boxes(source: Path) -> dict[str, np.ndarray]:
    """Reads the boxes of photos.

    Args:
        source: boxes.json; or a folder of `sample-photos`, or its scene.json.

    Returns:
        Name of each photo -> (n, 4) float64: left, top, right, bottom in pixels. n may be 0.

    Raises:
        BoxesError: there is no such file, it is none of boxes, or a box is empty or not finite.
    """
    path = source / SCENE if source.is_dir() else source
    if not path.is_file():
        raise BoxesError(f"there is no {path}: give boxes.json, or a folder that `keras-retrieval sample-photos` drew")
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
    """Writes boxes.json.

    Args:
        path: the file; it appears whole.
        boxes: name of each photo -> (n, 4) left, top, right, bottom in pixels.

    Returns:
        `path`.

    Raises:
        BoxesError: a box is empty or not finite.
    """
    photos = {name: _array(rows, name, path).round(2).tolist() for name, rows in boxes.items()}
    write_file(path, json.dumps({"version": VERSION, "photos": photos}, ensure_ascii=False))
    return path


def _photos(content: Any, path: Path) -> dict[str, Any]:
    """Name -> boxes, of boxes.json or of scene.json."""
    if isinstance(content, dict) and isinstance(content.get("buildings"), list):
        try:
            return {
                str(photo["name"]): [photo["box"]] for building in content["buildings"] for photo in building["photos"]
            }
        except (TypeError, KeyError) as error:
            raise BoxesError(f"{path} is not as `keras-retrieval sample-photos` writes it: no {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("photos"), dict):
        raise BoxesError(f'{path} holds no boxes: {{"version": {VERSION}, "photos": {{NAME: [[l, t, r, b], ..]}}}}')
    if content.get("version") != VERSION:
        raise BoxesError(
            f"{path} has version {content.get('version')!r} of its layout, and this code reads {VERSION}: "
            "update keras-retrieval"
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
