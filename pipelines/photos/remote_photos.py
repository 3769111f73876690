"""Reads photos at addresses such as s3://BUCKET/FOLDER.

A photo that is not there, or whose content is damaged, raises PhotoError, so that only it is left out. A storage that
does not answer raises `RemoteError`, which ends the work: the photo is not left out for it.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from ..files.address_list import LIST
from ..files.durable import FileStates, sha256_of
from ..files.machine import cores
from ..files.remote import FileState, MissingFileError, RemoteFolder, remote_folder
from ..files.stored_path import stored_path
from .formats import PhotoError, Source, photo_state
from .signatures import HEAD, content_of

Result = TypeVar("Result")

HEADER = 2**16  # bytes of the beginning of a file, which contain the headers of nearly all photos
HEADER_FIRST = ("JPEG", "PNG", "BMP")
"""Formats whose readers need no byte behind the header to know the size."""


_MISSING = "there is no such file"
_FETCHED = 8  # photos at an address at a time, if there are fewer cores: each is decoded, which takes memory
GONE: FileState = (0, "")
"""The state of a photo that is not there."""


def photo_states(folder: Path, names: Sequence[str]) -> FileStates:
    """Returns the states of the files of photos, at an address by one listing; see `formats.photo_state`.

    Args:
        folder: the folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.
        names: the names of the photos, relative to the folder.

    Raises:
        MissingFileError: there is nothing at the address.
        RemoteError: the storage does not answer, or refuses the listing.
    """
    if remote := remote_folder(folder):
        found = remote.files()
        states = [found.get(name, GONE) for name in names]
        return FileStates([size for size, _ in states], [tag for _, tag in states])
    here = [photo_state(folder / name) for name in names]
    return FileStates([size for size, _ in here], [changed for _, changed in here])


def photo_readers(folder: Path) -> int:
    """Returns how many photos of a folder are read at a time: one for each core, at an address at least 8.

    Args:
        folder: the folder, or an address such as s3://BUCKET/FOLDER as a path.
    """
    return max(cores(), _FETCHED) if remote_folder(folder) else cores()


def photo_in(folder: Path, name: str, read: Callable[[Source], Result]) -> Result:
    """Reads a photo of a folder of this machine or at an address.

    Args:
        folder: the folder, or an address such as s3://BUCKET/FOLDER as a path.
        name: the name of the photo, relative to the folder.
        read: the function of the photo's path on this machine, or of the content of its file at an address.

    Raises:
        PhotoError: the photo is not there, or `read` raises it; at an address, for the file that was read twice.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    remote = remote_folder(folder)
    return photo_at(remote, name, read) if remote else read(folder / name)


def sha256_in(folder: Path, name: str) -> str:
    """Returns the SHA-256 of a photo of a folder of this machine or at an address.

    Raises:
        OSError: the photo is not there, at an address as MissingFileError, or cannot be read.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    remote = remote_folder(folder)
    return sha256(remote.read(name)).hexdigest() if remote else sha256_of(stored_path(folder / name))


def header_in(
    folder: Path, name: str, read: Callable[[Source], Result], formats: Sequence[str] = HEADER_FIRST
) -> Result:
    """Computes what the header of a photo says; see `photo_in` and `header_at`."""
    remote = remote_folder(folder)
    return header_at(remote, name, read, formats) if remote else read(folder / name)


def header_at(
    folder: RemoteFolder, name: str, size: Callable[[Source], Result], formats: Sequence[str] = HEADER_FIRST
) -> Result:
    """Computes what the header of a photo says, from the beginning of its file if that is enough.

    Args:
        folder: the folder at an address.
        name: the name of the photo, relative to the folder.
        size: the function of the content of the file, which raises PhotoError if bytes are missing.
        formats: the formats of which `size` needs no byte behind the header.

    Raises:
        PhotoError: the photo is not there, or `size` raises it for the whole file, read twice.
        RemoteError: the storage does not answer, or refuses.
    """
    head = _content(folder, name, HEADER)
    if len(head) != HEADER:  # it is the whole file
        return _read_twice(folder, name, size, head)
    kind, reason = content_of(head[:HEAD])
    if not kind and _content(folder, name, HEADER) == head:
        raise PhotoError(name, reason)
    if kind in formats:
        try:
            return size(head)
        except PhotoError:  # the header is longer, or something else is wrong
            pass
    return photo_at(folder, name, size)


def photo_at(folder: RemoteFolder, name: str, read: Callable[[Source], Result]) -> Result:
    """Reads a photo; one that cannot be read is fetched once more, since its bytes may have been lost on their way.

    Args:
        folder: the folder at an address.
        name: the name of the photo, relative to the folder.
        read: the function of the content of the file.

    Raises:
        PhotoError: the photo is not there, or `read` raises it.
        RemoteError: the storage does not answer, or refuses.
    """
    return _read_twice(folder, name, read, _content(folder, name))


def photo_of(path: Path, read: Callable[[Source], Result]) -> Result:
    """Reads a photo of this machine or at an address, whose path is whole; see `photo_at`.

    A photo of a list of addresses is below the address of the list.
    """
    remote = remote_folder(path.parent)
    if remote is None:
        return read(path)
    if above := next((above for above in path.parents if above.name.endswith(LIST)), None):
        try:
            return photo_in(above, path.relative_to(above).as_posix(), read)
        except PhotoError as error:
            if not isinstance(error.__cause__, MissingFileError):
                raise
    return photo_at(remote, path.name, read)


def _read_twice(folder: RemoteFolder, name: str, read: Callable[[Source], Result], content: bytes) -> Result:
    try:
        return read(content)
    except PhotoError:
        again = _content(folder, name)
        if again == content:
            raise
        return read(again)


def _content(folder: RemoteFolder, name: str, most: int | None = None) -> bytes:
    try:
        return folder.read(name, most)
    except MissingFileError as error:
        raise PhotoError(name, _MISSING) from error
