"""Lists photos of landmarks, which are in one sub-folder per landmark.

The photos are either all photos of a folder, or the photos that `keras-retrieval clean` kept after removing those that
do not show their landmark.
"""

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
    """Reads the list of the photos that the command `keras-retrieval clean` kept.

    Args:
        folder: the output folder of `clean`, or any other folder.

    Returns:
        The folder of the photos, and the names of the kept photos relative to the folder of the photos. None if
        `folder` was not written by `clean`.

    Raises:
        FolderError: `folder` was written by `clean` and is damaged, or has a newer layout.
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
        folder: a folder of photos with one sub-folder per landmark, or the output folder of `keras-retrieval clean`.
        take: takes the photos of a folder, such as `IntakeOptions.take`.

    Returns:
        The folder of the photos, and the names of the photos relative to the folder of the photos: all photos, or those
        that `clean` kept.

    Raises:
        PhotoFolderError: `folder` does not exist or contains no photo.
        FolderError: `folder` was written by `clean` and is damaged, or has a newer layout.
    """
    cleaned = cleaned_photos(folder)
    if cleaned is not None:
        return cleaned
    intake = take(folder)
    log.info(intake.account)
    return folder, intake.photos


def by_landmark(names: Sequence[str], folder: Path) -> dict[str, list[str]]:
    """Groups photos by landmark, which is the relative path of the sub-folder that contains the photo.

    Args:
        names: the names of the photos, relative to `folder`, with / as the separator.
        folder: the folder of the photos, which is used in the error message only.

    Returns:
        A dict, sorted by landmark, that maps each landmark to the names of its photos. Photos outside any sub-folder
        belong to the landmark ".".

    Raises:
        PhotoFolderError: there are photos, but none of them is in a sub-folder.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[str(Path(name).parent)].append(name)
    if list(found) == ["."]:
        raise PhotoFolderError(f"{folder} has no sub-folders with photos: put the photos of each landmark in one")
    return dict(sorted(found.items()))
