"""The photos as COLMAP is to see them: the same pixels as everywhere else here, and only those that can be read.

COLMAP ignores EXIF orientation, cannot read GIF and WebP, and decodes half a JPEG without a word. Each photo is
therefore read whole once by `images.read_photo`. A JPEG or PNG that shows COLMAP the same pixels becomes a link
in the folder of images, anything else an upright JPEG copy that keeps the EXIF fields of the focal length. The
models' cameras thus hold for the photos as EXIF turns them, at full resolution.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from ..files.durable import FolderError, read_json, write_file
from ..files.progress import progress
from ..photos.formats import opened, photo_state
from ..photos.reader import MAX_PIXELS, PhotoError, read_photo
from .colmap import colmap_name, pieces

NOTES, OPTIONS = "photos.json", "options.json"
PHOTOS_AT_ONCE = 64
QUALITY = 95  # of a copy's JPEG
_CHECKED = 256  # pixels: a photo is decoded whole to know that it can be, and kept no larger
_TAGS = (ExifTags.Base.Make, ExifTags.Base.Model)
_EXIF_TAGS = (ExifTags.Base.FocalLength, ExifTags.Base.FocalLengthIn35mmFilm)

Note = dict[str, Any]


def begin(work: Path, photos: Path, extraction: dict[str, int]) -> None:
    """Makes the folder of a work with COLMAP, or checks that its features were found with the same options.

    Args:
        work: the folder.
        photos: the folder of photos.
        extraction: how features are looked for, `features` and `size`; kept in options.json.

    Raises:
        FolderError: `work` was begun otherwise, holds something else, or lies among the photos.
    """
    if work.resolve().is_relative_to(photos.resolve()):
        raise FolderError(f"{work} lies in {photos}, and its images would be taken for photos: name another folder")
    path = work / OPTIONS
    if path.exists():
        begun = read_json(path)
        if begun != extraction:
            said = " ".join(f"--{name} {value}" for name, value in begun.items())
            raise FolderError(f"{work} was begun with {said}: give the same, or name another folder")
        return
    if work.exists() and (not work.is_dir() or any(work.iterdir())):
        raise FolderError(f"{work} holds something else: name another folder")
    work.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(extraction))


def prepare(photos: Path, names: Sequence[str], work: Path) -> dict[str, str]:
    """Links or copies the photos that are new to `work`/images, and remembers them in photos.json.

    Args:
        photos: the folder of photos.
        names: in it.
        work: the folder of the reconstruction.

    Returns:
        The reason for each photo that cannot be read.

    Raises:
        ValueError: a photo that was prepared earlier has other content now.
    """
    path = work / NOTES
    notes: dict[str, Note] = read_json(path) if path.exists() else {}
    todo = [name for name in names if not _is_known(photos, name, notes.get(name), work)]
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("photos", len(todo)) as advance:
        for some in pieces(todo, PHOTOS_AT_ONCE):
            made = pool.map(lambda name: _prepare_one(photos / name, work / "images" / colmap_name(name)), some)
            notes.update(zip(some, made, strict=True))
            write_file(path, json.dumps(notes, ensure_ascii=False, indent=0))
            advance(len(some))
    return {name: notes[name]["reason"] for name in names if notes[name]["reason"]}


def _is_known(photos: Path, name: str, note: Note | None, work: Path) -> bool:
    """Whether nothing is to be done; links that lead nowhere, since the photos were moved, are made anew."""
    if note is None:
        return False
    photo = photos / name
    if photo_state(photo) == (note["bytes"], note["changed"]):
        return bool(note["reason"]) or (work / "images" / colmap_name(name)).exists()
    if not note["reason"] and _sha256(photo) != note["sha256"]:
        raise ValueError(f"{photo} has changed since {work} was begun: put it back, or name another WORK")
    return False


def _prepare_one(photo: Path, image: Path) -> Note:
    size, changed = photo_state(photo)
    note: Note = {"bytes": size, "changed": changed, "sha256": "", "reason": ""}
    try:
        read_photo(photo, size=_CHECKED)
        note["sha256"] = _sha256(photo)
        _link_or_copy(photo, image)
    except PhotoError as error:
        note["reason"] = error.reason
    except OSError as error:
        note["reason"] = f"the system cannot read it ({error.strerror})"
    return note


def _link_or_copy(photo: Path, image: Path) -> None:
    image.parent.mkdir(parents=True, exist_ok=True)
    temporary = image.with_name(f".{image.name}.writing")
    temporary.unlink(missing_ok=True)
    if _reads_the_same(photo):
        temporary.symlink_to(photo.resolve())
    else:
        exif = _focal_length(photo)
        Image.fromarray(read_photo(photo)).save(temporary, format="JPEG", quality=QUALITY, exif=exif)
    temporary.replace(image)


def _reads_the_same(photo: Path) -> bool:
    with opened(photo, MAX_PIXELS) as picture:
        plain = picture.format in ("JPEG", "PNG") and picture.mode in ("RGB", "L") and not picture.has_transparency_data
        return plain and _orientation(picture) == 1


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


def _focal_length(photo: Path) -> bytes:
    """The EXIF fields from which COLMAP guesses a focal length, and no others."""
    kept = Image.Exif()
    try:
        with opened(photo, MAX_PIXELS) as picture:
            found = picture.getexif()
            kept.update({tag: found[tag] for tag in _TAGS if tag in found})
            lens = found.get_ifd(ExifTags.IFD.Exif)
            kept.get_ifd(ExifTags.IFD.Exif).update({tag: lens[tag] for tag in _EXIF_TAGS if tag in lens})
        return kept.tobytes()
    except Exception:
        return b""


def _sha256(photo: Path) -> str:
    with photo.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
