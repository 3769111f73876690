"""Lists photos by the landmark, or other object, that they show.

The photos are either all photos of a folder, whose objects `object_folders` finds, or the photos that `keras-retrieval
clean` kept after removing those that do not show their landmark.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from keras_retrieval.errors import ArgumentError, class_and_text

from ..files.durable import FolderError, read_names
from .intake import Intake, take_photos
from .object_folders import AUTO, Objects, find_objects

log = logging.getLogger("keras_retrieval")

CLEANING, KEPT = "cleaning.json", "kept.txt"  # files in the output of `clean`
CLEANING_VERSION = 1


def cleaned_photos(folder: Path) -> tuple[Path, dict[str, list[str]]] | None:
    """Reads the list of the photos that the command `keras-retrieval clean` kept.

    Args:
        folder: the output folder of `clean`, or any other folder.

    Returns:
        The folder of the photos, and a dict that maps each landmark with a kept photo to the names of its kept photos
        relative to the folder of the photos. None if `folder` was not written by `clean`.

    Raises:
        FolderError: `folder` was written by `clean` and is damaged, or has a newer layout.
    """
    path = folder / CLEANING
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        version, photos = int(report["version"]), Path(report["photos"])
        kept = [(str(landmark.get("name", "")), int(landmark["kept"])) for landmark in report.get("landmarks", ())]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FolderError(f"{path} is damaged ({class_and_text(error)}): run `keras-retrieval clean` again") from error
    if version > CLEANING_VERSION:
        raise FolderError(
            f"{path} has layout {version}, and this keras-retrieval reads up to {CLEANING_VERSION}: "
            "update with pip install -U keras-retrieval"
        )
    names, count = read_names(folder / KEPT), sum(number for _, number in kept)
    if len(names) != count:
        raise FolderError(
            f"{folder / KEPT} has {len(names)} photos, and {path.name} counts {count}: run `keras-retrieval clean` "
            "again"
        )
    rows = iter(names)
    return photos, {landmark: [next(rows) for _ in range(number)] for landmark, number in kept if number}


def cleaned_objects(folder: Path, rule: str = AUTO) -> tuple[Path, Objects] | None:
    """Reads the photos that `keras-retrieval clean` kept as objects, which are the landmarks of `clean`.

    Args:
        folder: the output folder of `clean`, or any other folder.
        rule: the option --objects, which must be "auto" here, because `clean` has found the objects.

    Returns:
        The folder of the photos, and the kept photos by landmark; None if `folder` was not written by `clean`.

    Raises:
        ArgumentError: `rule` is not "auto".
        FolderError: `folder` was written by `clean` and is damaged, or has a newer layout.
    """
    cleaned = cleaned_photos(folder)
    if cleaned is None:
        return None
    if rule != AUTO:
        raise ArgumentError(f"{folder} was made by `clean`, which found the objects: leave --objects {rule} out")
    photos, landmarks = cleaned
    account = f"{folder}: {len(landmarks):,} landmarks with the photos that `clean` kept"
    return photos, Objects(landmarks, [], "folders", account)


def landmark_photos(
    folder: Path, take: Callable[[Path], Intake] = take_photos, rule: str = AUTO
) -> tuple[Path, Objects]:
    """Lists photos by the landmark that they show, and logs which folders are taken for landmarks.

    Args:
        folder: a folder of photos with sub-folders for landmarks, or the output folder of `keras-retrieval clean`.
        take: takes the photos of a folder, such as `IntakeOptions.take`.
        rule: the rule by which folders are landmarks, one of `object_folders.RULES`.

    Returns:
        The folder of the photos, and its photos by landmark: all photos, or those that `clean` kept.

    Raises:
        ArgumentError: `folder` was written by `clean`, and `rule` is not "auto".
        PhotoFolderError: `folder` does not exist or contains no photo, or its folders do not show what is a landmark.
        FolderError: `folder` was written by `clean` and is damaged, or has a newer layout.
    """
    cleaned = cleaned_objects(folder, rule)
    if cleaned is None:
        intake = take(folder)
        log.info(intake.account)
        cleaned = folder, find_objects(intake.photos, folder, rule, pairs=False)
    log.info(cleaned[1].account)
    return cleaned
