"""Photos in a folder for each landmark, as they were collected or as `keras-retrieval clean` left them."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..files.durable import FolderError, read_names
from .reader import list_photos

CLEANING, KEPT = "cleaning.json", "kept.txt"  # of a folder that `clean` made
CLEANING_VERSION = 1


def cleaned_photos(folder: Path) -> tuple[Path, list[str]] | None:
    """The folder of photos that `clean` was given and the names of those it kept; None where it made no such folder.

    Raises:
        FolderError: the folder is damaged, or of a newer version.
    """
    path = folder / CLEANING
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        version, photos = int(report["version"]), Path(report["photos"])
        count = sum(landmark["kept"] for landmark in report.get("landmarks", ()))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FolderError(f"{path} is damaged ({error!r}): `keras-retrieval clean` writes it anew") from error
    if version > CLEANING_VERSION:
        raise FolderError(
            f"{path} has version {version} and this code reads up to {CLEANING_VERSION}: "
            "update with pip install -U keras-retrieval"
        )
    names = read_names(folder / KEPT)
    if len(names) != count:
        raise FolderError(
            f"{folder / KEPT} has {len(names)} photos, and {path.name} counts {count}: `keras-retrieval clean` writes "
            "both anew"
        )
    return photos, names


def landmark_photos(folder: Path) -> tuple[Path, list[str]]:
    """The folder of the photos and their names in it: all of a folder of landmarks, or those that `clean` kept.

    Raises:
        ValueError: the folder is missing or holds no photo.
        FolderError: it was made by `clean` and is damaged.
    """
    return cleaned_photos(folder) or (folder, list_photos(folder))


def by_landmark(names: Sequence[str], folder: Path) -> dict[str, list[str]]:
    """Landmark -> its photos; a landmark has the name of the folder in which its photos lie.

    Args:
        names: of photos, with / between their parts.
        folder: that they lie in, for the message.

    Raises:
        ValueError: all lie in no folder of their own.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[str(Path(name).parent)].append(name)
    if list(found) == ["."]:
        raise ValueError(f"{folder} holds no folders: one for the photos of each landmark is needed")
    return dict(sorted(found.items()))
