"""Read-only copies of folders at addresses in the user's cache folder, for what is read through memory mappings.

A copy appears whole, by a rename, under a name made from the address and the checksums of its files. So a copy never
changes; a folder at an address that has changed gets another copy.
"""

import atexit
import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from keras_retrieval.errors import ArgumentError

from .cache_folder import CACHE_VARIABLE, cache_folder
from .durable import MANIFEST, FolderError, fingerprint, manifest_content, parse_manifest, read_manifest, sha256_of
from .remote import READERS, FileState, MissingFileError, RemoteFolder, named, remote_folder
from .remote_errors import shown
from .space import DiskSpaceError, require_space

log = logging.getLogger("keras_retrieval")

KEPT = 14 * 86_400.0
"""Seconds for which a copy is kept after it was last asked for."""

_SIZES = ".sizes.json"  # file of a copy with the size of each file
_DIGITS = 24  # of the hash of an address in the name of its folder
_ATTEMPTS = 3  # at a file whose checksum differs


def local_copy(folder: RemoteFolder, sums: Mapping[str, str]) -> Path:
    """Returns a read-only copy of files at an address, which is made unless there is one already.

    Args:
        folder: the folder at an address.
        sums: maps the name of each file to copy, relative to the folder, to its SHA-256.

    Returns:
        A folder with these files, which never changes. It is kept in the user's cache folder until no process has asked
        for it for two weeks; or until the process ends if nothing is to be remembered.

    Raises:
        MissingFileError: a file is not there; the folder may have been replaced since its manifest was read.
        FolderError: a file has another checksum, or a name leads out of the folder.
        RemoteError: the storage does not answer, or refuses.
        DiskSpaceError: the copy does not fit on the disk.
        ArgumentError: the cache folder cannot be written.
    """
    place = _copies() / hashlib.sha256(folder.address.encode()).hexdigest()[:_DIGITS]
    copy = place / fingerprint(sorted(sums.items()))
    if copy.is_dir():
        if _is_whole(copy, sums):
            with suppress(OSError):
                os.utime(copy)
            return copy
        shutil.rmtree(copy, ignore_errors=True)  # of which a cleaner of caches has removed files, or one is cut off
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"a copy of {shown(folder.address)} cannot be made in {place} ({error}): {CACHE_VARIABLE} names another "
            "folder for it"
        ) from error
    work = place / f".{secrets.token_hex(6)}.writing"
    try:
        fetch_files(folder, {name: (None, checksum) for name, checksum in sums.items()}, work)
        sizes = {name: (work / name).stat().st_size for name in sums}
        (work / _SIZES).write_text(json.dumps(sizes), encoding="utf-8")
        try:
            work.rename(copy)
        except OSError:
            if not copy.is_dir():  # made by another process meanwhile
                raise
    except DiskSpaceError as error:
        raise DiskSpaceError(
            f"{error}; a copy of {shown(folder.address)} is made there: {CACHE_VARIABLE} names another folder for it"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _prune(place.parent)
    return copy


def _is_whole(copy: Path, names: Iterable[str]) -> bool:
    """Whether a copy has all files, each with the size that it had when its checksum was compared."""
    try:
        sizes = json.loads((copy / _SIZES).read_text(encoding="utf-8"))
        return all((copy / name).stat().st_size == sizes[name] for name in names)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def sealed_copy(folder: Path, *, kind: str, version: int) -> tuple[Path, dict[str, Any]]:
    """Returns a folder with a manifest as a folder of this machine, and the content of the manifest.

    Args:
        folder: the folder, or an address, of which a copy of the manifest and the files that it lists is made.
        kind: the kind of folder, as for `read_manifest`.
        version: the newest version of its layout, as for `read_manifest`.

    Raises:
        FolderError: as for `read_manifest`; or a file at the address is missing, or differs from its checksum.
        RemoteError: the storage does not answer, or refuses.
        DiskSpaceError: the copy does not fit on the disk.
        ArgumentError: the cache folder cannot be written.
    """
    remote = remote_folder(folder)
    if remote is None:
        return folder, read_manifest(folder, kind=kind, version=version)
    text = manifest_content(folder, kind)
    while True:
        manifest = parse_manifest(text, folder, kind=kind, version=version)
        try:
            sums = manifest["sha256"] | {MANIFEST: hashlib.sha256(text).hexdigest()}
            return local_copy(remote, sums), manifest
        except (MissingFileError, FolderError) as error:
            again = manifest_content(folder, kind)
            if again == text:
                raise FolderError(f"{named(folder)} is damaged: {error}") from error
            text = again  # it was replaced meanwhile


def fetch_files(folder: RemoteFolder, files: Mapping[str, FileState], place: Path) -> None:
    """Copies files at an address into a folder, and compares each with its checksum.

    Args:
        folder: the folder at an address.
        files: maps the name of each file to copy, relative to the folder, to its size, or None, and its SHA-256.
        place: the folder to write to, which is made; what it has after an error is of no use.

    Raises:
        MissingFileError: a file is not there.
        FolderError: a file has another checksum, or a name leads out of the folder.
        RemoteError: the storage does not answer, or refuses.
        DiskSpaceError: the files do not fit on the disk.
    """
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise FolderError(f"{shown(folder.address)}: the name {name!r} leads out of the folder")
    for above in {place / PurePosixPath(name).parent for name in files} | {place}:
        above.mkdir(parents=True, exist_ok=True)
    require_space(place, sum(size or 0 for size, _ in files.values()))
    pool = ThreadPoolExecutor(READERS)
    try:
        for _ in pool.map(lambda name: _fetch(folder, name, place / name, files[name][1]), files):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch(folder: RemoteFolder, name: str, path: Path, checksum: str) -> None:
    for _ in range(_ATTEMPTS):
        folder.fetch(name, path)
        if sha256_of(path) == checksum:
            return
    raise FolderError(f"{shown(folder.address)}/{name} has changed since it was written: make the folder again")


def _copies() -> Path:
    """The folder of all copies."""
    return place_for_copies() / "copies"


def place_for_copies() -> Path:
    """The user's cache folder; where nothing is to be remembered, a folder that is removed when the process ends."""
    return cache_folder() or _until_the_end()


@cache
def _until_the_end() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="keras-retrieval-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _prune(copies: Path) -> None:
    """Removes copies that were not used for long; processes that have mapped their files keep them."""
    oldest = time.time() - KEPT
    with suppress(OSError):
        for copy in copies.glob("*/*"):
            with suppress(OSError):
                if copy.stat().st_mtime < oldest:
                    shutil.rmtree(copy, ignore_errors=True)
