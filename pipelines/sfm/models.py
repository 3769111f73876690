"""Finds COLMAP models in folders, reads them, and finds the photos that the names of their images mean."""

import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from keras_retrieval.errors import printable

from ..files.name_join import JoinError, PhotoNames, some_of
from .colmap import load_colmap, photo_name
from .errors import ModelError
from .model_files import FILES, check_binary, copy_text, format_of, is_blank

log = logging.getLogger("keras_retrieval")

UNFINISHED = ".partial"
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class ColmapModel:
    """A COLMAP model in memory.

    Attributes:
        folder: its folder.
        colmap: the `pycolmap.Reconstruction`. The names of its images are not used, see `names`.
        names: maps the ID of each registered image to its name, in the order of the IDs.
    """

    folder: Path
    colmap: Any
    names: dict[int, str]


def model_folders(folder: Path) -> list[Path]:
    """Finds the COLMAP models in a folder and its sub-folders of any depth.

    Args:
        folder: the folder to search.

    Returns:
        The folders that contain points3D.bin or points3D.txt, or two other files of a model, sorted. Unfinished ones of
        `reconstruct` are left out.
    """
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.endswith(UNFINISHED)]
        present = {name.rpartition(".")[0] for name in files if name.endswith((".bin", ".txt"))} & set(FILES)
        if "points3D" in present or len(present) > 1:
            found.append(Path(path))
    return sorted(found)


def read_model(folder: Path) -> ColmapModel:
    """Reads a COLMAP model in its binary or text format, with or without the files rigs and frames of COLMAP 3.12.

    An image whose name is not UTF-8 is left out with a warning: no photo has its name.

    Args:
        folder: the folder of the model.

    Raises:
        ModelError: a file is missing or damaged; the message names the file and the line.
        MissingExtraError: pycolmap is not installed.
        OSError: a file cannot be read.
    """
    colmap = load_colmap()
    ending = format_of(folder)
    if is_blank(folder, ending):
        return ColmapModel(folder, colmap.Reconstruction(), {})
    if ending == "bin":
        encoded = check_binary(folder)
        model = _read(folder, folder)
    else:
        with tempfile.TemporaryDirectory() as copy:
            encoded = copy_text(folder, Path(copy))
            model = _read(folder, Path(copy))
    names, lost = {}, []
    for number in sorted(model.reg_image_ids()):
        try:
            names[number] = encoded[number].decode("utf-8")
        except UnicodeDecodeError:
            lost.append(number)
    if lost:
        log.warning(
            f"{folder}: images whose names are not UTF-8 are left out: {len(lost):,}, the first has the ID {lost[0]}; "
            "rename the photos and reconstruct them again"
        )
    return ColmapModel(folder, model, names)


def _read(folder: Path, copy: Path) -> Any:
    try:
        return load_colmap().Reconstruction(copy)
    except (ValueError, RuntimeError, IndexError, MemoryError) as error:
        why = re.sub(r"\s+", " ", str(error)).strip()
        raise ModelError(
            f"{folder} cannot be read as a COLMAP model ({why}): write it again with COLMAP's model_converter, or "
            "remove the folder"
        ) from error


class ImageNames:
    """Finds the photos that the names of images in COLMAP models mean.

    With a list of photos, an image is the photo with its name, or with its name in the encoding of `colmap_name`, or
    the one that `PhotoNames` finds: names of Windows and absolute paths are found by their last parts. Without a list,
    backslashes become slashes.

    Args:
        photos: the names of all photos; None if they are unknown.

    Attributes:
        unknown: the names of images that are no photo of the list, in the order in which they were looked up.
    """

    def __init__(self, photos: Sequence[str] | None) -> None:
        self.unknown: list[str] = []
        self._photos = None if photos is None else PhotoNames(photos)
        self._set = frozenset(photos or ())

    def find(self, name: str) -> str | None:
        """Returns the name of an image's photo; None if the photo is not in the list.

        Raises:
            ModelError: the name is an absolute path, or one with .., and the photos are unknown; or several photos may
                be meant.
        """
        if self._photos is None:
            return _relative(name)
        for exact in (name, photo_name(name)):
            if exact in self._set:
                return exact
        try:
            row = self._photos.find(name)
        except JoinError as error:
            raise ModelError(f"image {error}") from None
        if row is None:
            self.unknown.append(name)
            return None
        return self._photos.names[row]

    def photos_of(self, model: ColmapModel) -> dict[int, str]:
        """Returns the photos of a model: a dict from the ID of each image to the name of its photo.

        Raises:
            ModelError: as for `find`, or two images are the same photo; the message names the model.
        """
        found: dict[int, str] = {}
        first: dict[str, str] = {}
        for number, name in model.names.items():
            try:
                photo = self.find(name)
            except ModelError as error:
                raise ModelError(f"{model.folder}: {error}") from None
            if photo is None:
                continue
            if photo in first:
                raise ModelError(
                    f"{model.folder}: its images '{printable(first[photo])}' and '{printable(name)}' are both the "
                    f"photo {photo}: rename or remove one"
                )
            first[photo] = name
            found[number] = photo
        return found


def _relative(name: str) -> str:
    """The name with slashes.

    Raises:
        ModelError: the name is an absolute path, or one with ..
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or _DRIVE.match(name) or ".." in path.parts:
        raise ModelError(
            f"the image '{printable(name)}' is not a path below the folder of the photos: give --photos, in which the "
            "photo is looked up by the last parts of its path"
        )
    return str(path)


def registered_photos(folder: Path, photos: Sequence[str]) -> list[str]:
    """Returns which photos are registered in the COLMAP models of a folder.

    Args:
        folder: the folder of a model, or one with models in sub-folders, such as the output of `reconstruct`.
        photos: the names of all photos.

    Returns:
        The names of the photos, sorted. Models without images, and images that are no photo, are warned of.

    Raises:
        ModelError: there is no model, a model is damaged, or no image is one of the photos.
    """
    folders = model_folders(folder)
    if not folders:
        raise ModelError(
            f"{folder} {'contains no COLMAP model' if folder.is_dir() else 'is not a folder'}: give a folder with "
            "cameras.bin, images.bin and points3D.bin, or the same as .txt"
        )
    warn_of_empty(folders, folder)
    names = ImageNames(photos)
    found: set[str] = set()
    for model in usable_models(map(read_model, folders)):
        found.update(names.photos_of(model).values())
    if not found:
        raise ModelError(
            f"{folder}: none of its images is a photo: an image is {some_of(list(map(printable, names.unknown)))}, a "
            f"photo {some_of(list(photos))}"
            if names.unknown
            else f"{folder}: its models have no registered image: reconstruct more photos, or give another folder"
        )
    warn_of_unknown(folder, names.unknown)
    return sorted(found)


def usable_models(models: Iterable[ColmapModel]) -> Iterator[ColmapModel]:
    """Returns the models that have registered images, one by one; the others are warned of."""
    for model in models:
        if model.names:
            yield model
        else:
            log.warning(
                f"{model.folder} has no registered image and is left out: remove the folder, or reconstruct it from "
                "more photos"
            )


def warn_of_empty(folders: Sequence[Path], root: Path) -> None:
    """Warns of folders without files beside the models `folders` below `root`."""
    beside = {folder.parent for folder in folders if folder != root}
    for empty in sorted(child for parent in beside for child in parent.iterdir() if _is_empty_folder(child)):
        log.warning(f"{empty} is an empty folder and no model: it is left out; remove it, or reconstruct it again")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def warn_of_unknown(folder: Path, unknown: Sequence[str]) -> None:
    """Warns of images that are no photo."""
    if unknown:
        shown = some_of(list(map(printable, unknown)))
        log.warning(f"{folder}: {len(unknown):,} of its images are no photo and are left out: {shown}")
