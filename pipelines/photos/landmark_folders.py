"""Photos in one folder per landmark: all photos of a folder, or those that `keras-retrieval clean` kept."""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from ..files.durable import FolderError, read_names
from .formats import PhotoFolderError
from .intake import Intake, take_photos

log = logging.getLogger("keras_retrieval")

CLEANING, KEPT = "cleaning.json", "kept.txt"  # files in the output of `clean`
CLEANING_VERSION = 1


def cleaned_photos(folder: Path) -> tuple[Path, list[str]] | None:
    """Reads the list of the photos that `clean` kept.

    Args:
        folder: the output of `clean`, or another folder.

    Returns:
        The folder of the photos and the names of those that were kept; None if `clean` did not write `folder`.

    Raises:
        FolderError: the folder is damaged, or has a newer layout.
    """
    path = folder / CLEANING
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        version, photos = int(report["version"]), Path(report["photos"])
        count = sum(landmark["kept"] for landmark in report.get("landmarks", ()))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FolderError(f"{path} is damaged ({error!r}): run `keras-retrieval clean` again") from error
    if version > CLEANING_VERSION:
        raise FolderError(
            f"{path} has layout {version}, and this keras-retrieval reads up to {CLEANING_VERSION}: "
            "update with pip install -U keras-retrieval"
        )
    names = read_names(folder / KEPT)
    if len(names) != count:
        raise FolderError(
            f"{folder / KEPT} has {len(names)} photos, and {path.name} counts {count}: run `keras-retrieval clean` "
            "again"
        )
    return photos, names


def landmark_photos(folder: Path, take: Callable[[Path], Intake] = take_photos) -> tuple[Path, list[str]]:
    """Lists the photos of landmarks.

    Args:
        folder: a folder with one sub-folder per landmark, or the output of `clean`.
        take: takes the photos of a folder, such as `IntakeOptions.take`.

    Returns:
        The folder of the photos, and the names of all photos in it or of those that `clean` kept.

    Raises:
        PhotoFolderError: the folder does not exist or contains no photo.
        FolderError: it is the output of `clean` and damaged.
    """
    cleaned = cleaned_photos(folder)
    if cleaned is not None:
        return cleaned
    intake = take(folder)
    log.info(intake.account)
    return folder, intake.photos


def by_landmark(names: Sequence[str], folder: Path) -> dict[str, list[str]]:
    """Groups photos by landmark, the path of their folder.

    Args:
        names: the names of the photos, with / as the separator.
        folder: the folder of the photos, for the message.

    Returns:
        A dict that maps each landmark to its photos, sorted by landmark.

    Raises:
        PhotoFolderError: no photo is in a sub-folder.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[str(Path(name).parent)].append(name)
    if list(found) == ["."]:
        raise PhotoFolderError(f"{folder} has no sub-folders with photos: put the photos of each landmark in one")
    return dict(sorted(found.items()))
