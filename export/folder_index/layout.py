"""The layout of an index folder: manifest.json, one current segment, and lock files.

The folder INDEX/segment-N is a segment: descriptors, names, column values and ScaNN's files, none of which change after
the build, and the write-ahead log of later changes (`folder_index.write_ahead_log`). INDEX/manifest.json names the
current segment and lists its files with their SHA-256, except those of the log, which contains its own hashes.

The manifest is replaced atomically, so that a reader finds the old segment or the new segment even if a writer is
killed. The next writer removes the files that a killed writer left.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.durable import MANIFEST, FolderError, read_manifest, write_manifest
from keras_retrieval.pipelines.files.locks import lock

from ..index_contract.errors import IndexBusyError
from .write_ahead_log import HEAD, LOG, FileStamp, file_stamp

KIND, VERSION = "ScaNN index", 4
PHOTOS_VERSION, CROPS_VERSION = 3, 4  # of indexes with one row per photo, and with one per crop
LOCAL = "local"
"""Name of the sub-folder with the local features of the photos, which `export.indexes.local_store` keeps."""
_PREFIX = "segment-"
_LOCKS = {"writing": "writing to", "building": "rebuilding"}


def read_index(folder: Path) -> dict[str, Any]:
    """Reads the manifest of an index folder and verifies the SHA-256 of all files that the manifest lists.

    Raises:
        FolderError: the folder does not exist, is not an index, has an older or newer layout, or a file is missing or
            was altered.
    """
    while True:
        before = manifest_stamp(folder)
        try:
            manifest = read_manifest(folder, kind=KIND, version=VERSION, verify=True)
            break
        except FolderError:
            if manifest_stamp(folder) == before:
                raise
    if manifest["version"] not in (PHOTOS_VERSION, CROPS_VERSION):
        raise FolderError(f"{folder} has layout {manifest['version']}, which is no longer supported: index again")
    return manifest


def manifest_stamp(folder: Path) -> FileStamp:
    """Returns a stamp of an index folder's manifest, which changes whenever a new segment becomes current."""
    return file_stamp(folder / MANIFEST)


def current_segment(folder: Path) -> str | None:
    """Returns the folder name of the current segment, which may be damaged; None if the manifest cannot be read."""
    try:
        return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["segment"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


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


def new_segment(folder: Path, current: str | None) -> Path:
    """Makes an empty folder for the next segment, and removes segments that killed builders left.

    Args:
        folder: the index folder, which the caller has locked for "building".
        current: folder name of the current segment, which is kept; None if there is none.

    Returns:
        The path of the new folder, `folder`/segment-N.
    """
    found = list(folder.glob(f"{_PREFIX}*"))
    number = 1 + max((int(path.name.removeprefix(_PREFIX)) for path in found), default=0)
    for path in found:
        if path.name != current:
            shutil.rmtree(path, ignore_errors=True)
    segment = folder / f"{_PREFIX}{number:06}"
    (segment / "scann").mkdir(parents=True)
    return segment


def remove_other_segments(folder: Path, segment: str) -> None:
    """Removes every sub-folder of an index folder except one segment and `LOCAL`, also those of older layouts.

    Args:
        folder: the index folder, which the caller has locked for "building".
        segment: folder name of the segment to keep.
    """
    for path in folder.iterdir():
        if path.is_dir() and path.name not in (segment, LOCAL):
            shutil.rmtree(path, ignore_errors=True)


def publish(folder: Path, segment: Path, facts: Mapping[str, Any]) -> None:
    """Makes a segment, whose files and log are complete, the current segment of an index by replacing the manifest.

    Args:
        folder: the index folder, which the caller has locked for "writing".
        segment: folder of the segment, inside `folder`.
        facts: entries of the new manifest. The entries of an older manifest may be passed, because those that describe
            files are replaced.
    """
    files = [path for path in segment.rglob("*") if path.is_file() and path.name not in (LOG, HEAD)]
    facts = {key: value for key, value in facts.items() if key not in ("kind", "version", "sha256", "segment")}
    version = CROPS_VERSION if facts.get("crops") else PHOTOS_VERSION
    write_manifest(folder, files, kind=KIND, version=version, segment=segment.name, **facts)
