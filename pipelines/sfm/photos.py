"""Prepares photos for COLMAP, so that COLMAP reads only valid photos and the same pixels as all other commands.

COLMAP ignores the EXIF orientation, cannot read GIF and WebP, and decodes truncated JPEGs without an error. Each photo
is therefore decoded once by `photos.reader.read_photo`, which checks it. A JPEG or PNG from which COLMAP reads the same
pixels is linked into a folder of images, or copied there if it is at an address, because COLMAP reads files of this
machine. Any other photo is copied there as an upright JPEG with the EXIF fields of the focal length. The cameras of the
models are therefore valid for the photos at full resolution, after the EXIF orientation is applied.
"""

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from ..files.durable import FileStates, State, atomic_path, read_json, sha256_of, write_file
from ..files.progress import progress
from ..files.remote import MissingFileError, named, remote_folder
from ..files.space import require_space
from ..photos.formats import TRUNCATED, Source, open_photo, system_reason
from ..photos.reader import MAX_PIXELS, PhotoError, is_upright, read_photo
from ..photos.remote_photos import GONE, photo_in, photo_readers, photo_states, sha256_in
from .colmap import batches, colmap_name
from .errors import ReconstructionError

NOTES = "photos.json"
PHOTOS_AT_ONCE = 64
QUALITY = 95  # JPEG quality of a copy
_CHECKED = 256  # size in pixels to which a photo is decoded to check that it can be read
_TAGS = (ExifTags.Base.Make, ExifTags.Base.Model)
_EXIF_TAGS = (ExifTags.Base.FocalLength, ExifTags.Base.FocalLengthIn35mmFilm)

Note = dict[str, Any]


def prepare(
    photos: Path,
    names: Sequence[str],
    work: Path,
    accept_truncated: bool = False,
    states: FileStates | None = None,
) -> dict[str, str]:
    """Links or copies photos to `work`/images, and records them in `work`/photos.json.

    Photos that are recorded already are skipped. Each photo at an address is fetched once.

    Args:
        photos: the folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.
        names: the names of the photos, relative to `photos`.
        work: the folder of the reconstruction.
        accept_truncated: whether a JPEG that lacks its last bytes is used, with grey in place of what is missing.
        states: the states of the photos' files; None to ask for them.

    Returns:
        A dict from the name of each photo that cannot be read to the reason.

    Raises:
        ReconstructionError: a photo has changed since it was prepared.
        DiskSpaceError: the photos at an address do not fit on the disk, before the first is fetched; or it is full.
        RemoteError: the storage of an address does not answer, or refuses; the photos until then are prepared.
    """
    path = work / NOTES
    notes: dict[str, Note] = read_json(path) if path.exists() else {}
    if accept_truncated:
        notes = {name: note for name, note in notes.items() if note["reason"] != TRUNCATED}
    found = photo_states(photos, names) if states is None else states
    state = found.by_name(names)
    todo = [name for name in names if not _is_prepared(photos, name, state[name], notes.get(name), work)]
    if remote_folder(photos):
        require_space(work, sum(state[name][0] or 0 for name in todo))
    with ThreadPoolExecutor(photo_readers(photos)) as pool, progress("photos", len(todo)) as advance:
        for batch in batches(todo, PHOTOS_AT_ONCE):
            made = pool.map(
                lambda name: prepare_photo(
                    photos, name, state[name], work / "images" / colmap_name(name), accept_truncated
                ),
                batch,
            )
            notes.update(zip(batch, made, strict=True))
            write_file(path, json.dumps(notes, ensure_ascii=False, indent=0))
            advance(len(batch))
    return {name: notes[name]["reason"] for name in names if notes[name]["reason"]}


def _is_prepared(photos: Path, name: str, state: State, note: Note | None, work: Path) -> bool:
    """Returns whether a photo has been prepared and its image exists; a link breaks if the photos are moved."""
    if note is None:
        return False
    if state == (note["bytes"], note["changed"]):
        return bool(note["reason"]) or (work / "images" / colmap_name(name)).exists()
    if not note["reason"] and _sum_now(photos, name) != note["sha256"]:
        raise ReconstructionError(
            f"{named(photos)}/{name} has changed since {work} was started: restore it, or name another folder"
        )
    return False


def prepare_photo(photos: Path, name: str, state: State, image: Path, accept_truncated: bool) -> Note:
    """Links or copies one photo.

    Args:
        photos: the folder of the photo, or an address such as s3://BUCKET/FOLDER as a path.
        name: the name of the photo, relative to `photos`.
        state: the state of its file, by which a later run sees whether it has changed.
        image: the file to make, a link, a copy or an upright JPEG.
        accept_truncated: whether a JPEG that lacks its last bytes is used, with grey in place of what is missing.

    Returns:
        The entry of the photo in photos.json. Its "reason" says why the photo cannot be used; it is "" if it can.

    Raises:
        OSError: the image cannot be written, for example because the disk is full.
        RemoteError: the storage of an address does not answer, or refuses.
    """

    def prepared(photo: Source) -> str:
        whole = _is_whole(photo, accept_truncated)
        checksum = _sum_of(photo)
        _link_or_copy(photo, image, whole)
        return checksum

    note: Note = {"bytes": state[0], "changed": state[1], "sha256": "", "reason": ""}
    try:
        note["sha256"] = photo_in(photos, name, prepared)
    except PhotoError as error:
        note["reason"] = error.reason
        if isinstance(error.__cause__, MissingFileError):
            note["bytes"], note["changed"] = GONE  # so that the next run looks for it again
    return note


def _sum_now(photos: Path, name: str) -> str:
    """The SHA-256 of a photo; "" if it is not at the address any more."""
    try:
        return sha256_in(photos, name)
    except MissingFileError:
        return ""


def _sum_of(photo: Source) -> str:
    if isinstance(photo, bytes):
        return sha256(photo).hexdigest()
    try:
        return sha256_of(Path(photo))
    except OSError as error:
        raise PhotoError(str(photo), system_reason(error)) from error


def _is_whole(photo: Source, accept_truncated: bool) -> bool:
    """Whether a photo is not truncated.

    Raises:
        PhotoError: the photo cannot be read, or is truncated and not to be accepted.
    """
    try:
        read_photo(photo, size=_CHECKED)
    except PhotoError as error:
        if not (accept_truncated and error.truncated):
            raise
        read_photo(photo, size=_CHECKED, accept_truncated=True)
        return False
    return True


def _link_or_copy(photo: Source, image: Path, whole: bool) -> None:
    image.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(image, sync=False) as temporary:
        temporary.unlink(missing_ok=True)
        if whole and _colmap_reads_the_same(photo):
            if isinstance(photo, bytes):
                temporary.write_bytes(photo)
                return
            try:
                temporary.symlink_to(Path(photo).resolve())
            except OSError:  # exFAT and some shared folders have no links
                shutil.copyfile(photo, temporary)
        else:
            exif = _focal_length(photo)
            Image.fromarray(read_photo(photo, accept_truncated=not whole)).save(
                temporary, format="JPEG", quality=QUALITY, exif=exif
            )


def _colmap_reads_the_same(photo: Source) -> bool:
    with open_photo(photo, MAX_PIXELS) as picture:
        plain = picture.format in ("JPEG", "PNG") and picture.mode in ("RGB", "L") and not picture.has_transparency_data
        return plain and is_upright(picture)


def _focal_length(photo: Source) -> bytes:
    """Returns EXIF data with only the fields from which COLMAP derives the focal length; b"" if there are none."""
    kept = Image.Exif()
    try:
        with open_photo(photo, MAX_PIXELS) as picture:
            found = picture.getexif()
            kept.update({tag: found[tag] for tag in _TAGS if tag in found})
            lens = found.get_ifd(ExifTags.IFD.Exif)
            kept.get_ifd(ExifTags.IFD.Exif).update({tag: lens[tag] for tag in _EXIF_TAGS if tag in lens})
        return kept.tobytes()
    except Exception:
        return b""
