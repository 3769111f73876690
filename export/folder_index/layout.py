"""The layout of an index folder: manifest.json, one current segment, and lock files.

The folder INDEX/segment-N is a segment: descriptors, names, column values and ScaNN's files, none of which change after
the build, and the write-ahead log of later changes (`folder_index.write_ahead_log`). INDEX/manifest.json names the
current segment and lists its files with their SHA-256, except those of the log, which contains its own hashes.

The manifest is replaced atomically, so that a reader finds the old segment or the new segment even if a writer is
killed. The next change removes the files that a killed writer left.

A replaced segment stays for a grace period, because readers on other machines may still have its files mapped, and
would be killed if these vanished from a network file system. The manifest lists such segments and the times until which
they stay, by the clock of the file system; the next change after that removes them.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.checksums import Checksums
from keras_retrieval.pipelines.files.durable import MANIFEST, FolderError, read_manifest, write_manifest
from keras_retrieval.pipelines.files.locks import lock

from ..index_contract.errors import IndexBusyError
from .write_ahead_log import HEAD, LOG, FileStamp, file_stamp

KIND, VERSION = "ScaNN index", 4
PHOTOS_VERSION, CROPS_VERSION = 3, 4  # of indexes with one row per photo, and with one per crop
LOCAL = "local"
"""Name of the sub-folder with the local features of the photos, which `export.indexes.local_store` keeps."""
REPLACED = "replaced"  # entry of the manifest: earlier segments, and until when they stay
_OF_FILES = ("kind", "version", "sha256", "segment")
_PREFIX = "segment-"
_LOCKS = {"writing": "writing to", "building": "rebuilding"}


def read_index(folder: Path) -> dict[str, Any]:
    """Reads the manifest of an index folder and verifies the SHA-256 of all files that the manifest lists.

    Files that have not changed since they were verified are not read again; see `pipelines.files.checksums`.

    Raises:
        FolderError: the folder does not exist, is not an index, has an older or newer layout, or a file is missing or
            was altered.
    """
    trusted = True
    while True:
        before = manifest_stamp(folder)
        checksums = Checksums(folder, trusted=trusted)
        try:
            manifest = read_manifest(folder, kind=KIND, version=VERSION, verify=checksums.sha256)
            checksums.keep()
            break
        except FolderError:
            if manifest_stamp(folder) != before:
                continue
            if not checksums.used:
                raise
            trusted = False  # the kept checksums may be what is wrong
    if manifest["version"] not in (PHOTOS_VERSION, CROPS_VERSION):
        raise FolderError(f"{folder} has layout {manifest['version']}, which is no longer supported: index again")
    return manifest


def manifest_stamp(folder: Path) -> FileStamp:
    """Returns a stamp of an index folder's manifest, which changes whenever a new segment becomes current."""
    return file_stamp(folder / MANIFEST)


def current_segment(folder: Path) -> str | None:
    """Returns the folder name of the current segment, which may be damaged; None if the manifest cannot be read."""
    segment = _entry(folder, "segment", None)
    return None if segment is None else str(segment)


@contextmanager
def locked(folder: Path, action: str, wait: float = 10.0) -> Iterator[None]:
    """Locks an index folder within a `with` statement, so that no other thread or process performs the same action.

    Args:
        folder: the index folder.
        action: action to exclude: "writing" a change, or "building" a segment.
        wait: seconds to wait for the lock.

    Raises:
        IndexBusyError: another thread or process still holds the lock after `wait` seconds.
    """
    with (folder / f".{action}").open("a") as file:
        deadline = time.monotonic() + wait
        while True:
            try:
                lock(file.fileno(), wait=False)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise IndexBusyError(
                        f"another process is {_LOCKS[action]} {folder}: wait for it, or stop it"
                    ) from None
                time.sleep(0.005)
        yield


@contextmanager
def new_segment(folder: Path, current: str | None) -> Iterator[Path]:
    """Context manager that makes an empty folder for the next segment; removes it if the block raises an error.

    Args:
        folder: the index folder, which the caller has locked for "building".
        current: folder name of the current segment; None if there is none.

    Yields:
        The path of the new folder, `folder`/segment-N.
    """
    numbers = [int(path.name.removeprefix(_PREFIX)) for path in folder.glob(f"{_PREFIX}*")]
    remove_outdated(folder, current)
    segment = folder / f"{_PREFIX}{1 + max(numbers, default=0):06}"
    try:
        (segment / "scann").mkdir(parents=True)
        yield segment
    except BaseException:
        if current_segment(folder) != segment.name:
            shutil.rmtree(segment, ignore_errors=True)
        raise


def remove_outdated(folder: Path, current: str | None, *, older: bool = False) -> None:
    """Removes segments whose grace period is over, and those that killed builders left.

    Args:
        folder: the index folder, which the caller has locked for "building".
        current: folder name of the current segment, which is kept; None if there is none.
        older: whether sub-folders of older layouts are removed as well.
    """
    replaced = _replaced(folder)
    now = file_time(folder) if replaced else 0.0
    kept = {segment for segment, until in replaced.items() if until > now}
    for path in folder.glob("*" if older else f"{_PREFIX}*"):
        if path.is_dir() and path.name not in (current, LOCAL, *kept):
            shutil.rmtree(path, ignore_errors=True)


def clean(folder: Path, current: str) -> None:
    """Removes what is outdated (see `remove_outdated`), unless a segment is being built."""
    if len(list(folder.glob(f"{_PREFIX}*"))) > 1:
        with suppress(IndexBusyError), locked(folder, "building", wait=0):
            remove_outdated(folder, current)


def publish(folder: Path, segment: Path, facts: Mapping[str, Any], grace: float) -> None:
    """Makes a segment, whose files and log are complete, the current segment of an index by replacing the manifest.

    Args:
        folder: the index folder, which the caller has locked for "writing".
        segment: folder of the segment, inside `folder`.
        facts: entries of the new manifest. The entries of an older manifest may be passed, because those that describe
            files are replaced.
        grace: minutes for which the segment that is replaced stays.
    """
    files = [path for path in segment.rglob("*") if path.is_file() and path.name not in (LOG, HEAD)]
    facts = {key: value for key, value in facts.items() if key not in (*_OF_FILES, REPLACED)}
    version = CROPS_VERSION if facts.get("crops") else PHOTOS_VERSION
    replaced, now = _replaced(folder), file_time(folder)
    if (before := current_segment(folder)) is not None:
        replaced[before] = now + 60 * grace
    replaced = {name: until for name, until in replaced.items() if until > now and (folder / name).is_dir()}
    checksums = Checksums(folder)
    write_manifest(
        folder,
        files,
        kind=KIND,
        version=version,
        sha256=checksums.sha256,
        segment=segment.name,
        **facts,
        **({REPLACED: replaced} if replaced else {}),
    )
    checksums.keep()


def file_time(folder: Path) -> float:
    """Returns the time of the clock by which a folder's files get their times, in seconds since 1970.

    On a network file system this is the server's clock, which is the same for all machines. The folder must be
    writable.
    """
    path = folder / ".writing"
    path.touch()
    return path.stat().st_mtime


def grace_left(folder: Path, segment: str) -> float:
    """Returns for how many seconds a segment stays that the current manifest has replaced, from its publication on.

    Both times are of the clock of the file system, so that the clock of the reader does not matter. Returns 0 if the
    segment may be removed at any moment.
    """
    try:
        published = (folder / MANIFEST).stat().st_mtime
    except OSError:
        return 0.0
    return max(0.0, _replaced(folder).get(segment, 0.0) - published)


def _replaced(folder: Path) -> dict[str, float]:
    """The segments that the manifest states as replaced, and until when they stay, in seconds since 1970."""
    entries = _entry(folder, REPLACED, {}).items()
    return {str(name): float(until) for name, until in entries if isinstance(until, int | float)}


def _entry(folder: Path, name: str, default: Any) -> Any:
    """An entry of a manifest that may be damaged."""
    try:
        entry = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get(name, default)
    except (OSError, ValueError, AttributeError, RecursionError):
        return default
    return entry if default is None or isinstance(entry, type(default)) else default
