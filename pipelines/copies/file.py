"""The file duplicates.json, which lists the copies in a folder of photos."""

import json
from pathlib import Path
from typing import Any

from keras_retrieval.errors import class_and_text

from ..files.durable import write_file
from .find import DuplicatesError
from .groups import Copies, Group

FILE = "duplicates.json"
VERSION = 1


def write_duplicates(path: Path, copies: Copies, about: dict[str, Any]) -> None:
    """Writes the groups of copies to a file.

    Args:
        path: the file, which is replaced.
        copies: the copies.
        about: further entries of the file, such as the folder of the photos; serialisable as JSON.
    """
    content = {
        "version": VERSION,
        **about,
        "counts": {
            "photos": copies.count,
            "copies": sum(len(group.photos) - 1 for group in copies.groups),
            "groups": len(copies.groups),
            "unread": len(copies.left_out),
            "featureless": copies.featureless,
        },
        "groups": [_entry(group) for group in copies.groups],
        "unread": dict(sorted(copies.left_out.items())),
    }
    write_file(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _entry(group: Group) -> dict[str, Any]:
    kept = group.names[0]
    return {
        "kind": group.kind,
        "keep": kept,
        "similarity": group.similarity,
        "photos": [
            {
                "name": photo.name,
                "width": photo.width,
                "height": photo.height,
                "bytes": photo.size,
                "same_bytes": photo.name == kept or group.has_bytes_of_kept(photo.name),
            }
            for photo in group.photos
        ],
    }


def read_groups(path: Path) -> list[list[str]]:
    """Reads the groups of copies that the step `duplicates` found.

    Args:
        path: the file duplicates.json, or the folder that contains it.

    Returns:
        The names of the photos in each group, the photo to keep first.

    Raises:
        DuplicatesError: the file does not exist, is damaged or has a newer layout.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DuplicatesError(f"{file} does not exist: `keras-retrieval duplicates PHOTOS` makes it")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = int(content["version"])
        groups = [[photo["name"] for photo in group["photos"]] for group in content["groups"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DuplicatesError(
            f"{file} is damaged or is not a list of copies ({class_and_text(error)}): `keras-retrieval duplicates` "
            "makes it again"
        ) from error
    if version > VERSION:
        raise DuplicatesError(
            f"{file} has layout {version}, and this keras-retrieval reads up to {VERSION}: "
            "update with pip install -U keras-retrieval"
        )
    if not all(isinstance(name, str) for names in groups for name in names):
        raise DuplicatesError(f"{file} is damaged (a name is not text): `keras-retrieval duplicates` makes it again")
    return groups
