"""The layout of an index folder: a manifest that lists the files of one segment, and lock files.

INDEX/manifest.json is replaced atomically, so that a reader finds the old segment or the new one even if a writer is
killed; the next writer removes the files of a killed one. INDEX/segment-N contains rows, names, columns and ScaNN's
files, which the manifest lists with their SHA-256, and the log of changes since the build (write_ahead_log.py), which
has its own hashes.
"""

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.durable import MANIFEST, FolderError, read_manifest, write_manifest

from ..index_contract.errors import IndexBusyError
from .write_ahead_log import HEAD, LOG, FileStamp, file_stamp

KIND, VERSION = "ScaNN index", 3
_PREFIX = "segment-"
_LOCKS = {"writing": "writing to", "building": "rebuilding"}


def read_index(folder: Path) -> dict[str, Any]:
    """Reads the manifest of an index and verifies all files that it lists.

    Raises:
        FolderError: the folder does not exist or is not an index, its layout is newer or older, or a file is missing
            or has changed.
    """
    while True:
        before = manifest_stamp(folder)
        try:
            manifest = read_manifest(folder, kind=KIND, version=VERSION, verify=True)
            break
        except FolderError:
            if manifest_stamp(folder) == before:
                raise
    if manifest["version"] != VERSION:
        raise FolderError(f"{folder} has layout {manifest['version']}, which is no longer supported: index again")
    return manifest


def manifest_stamp(folder: Path) -> FileStamp:
    """Returns a stamp that changes whenever another segment is published."""
    return file_stamp(folder / MANIFEST)


def current_segment(folder: Path) -> str | None:
    """Returns the name of the current segment of an index, which may be damaged; None if it cannot be read."""
    try:
        return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["segment"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


@contextmanager
def locked(folder: Path, action: str, wait: float = 10.0) -> Iterator[None]:
    """Locks an index against the same action by other threads and processes, as a context manager.

    Args:
        folder: the folder of the index.
        action: "writing" a change or "building" a segment.
        wait: seconds to wait for the lock.

    Raises:
        IndexBusyError: another thread or process still holds the lock after `wait` seconds.
    """
    with (folder / f".{action}").open("a") as file:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise IndexBusyError(
                        f"another process is {_LOCKS[action]} {folder}: wait for it, or stop it"
                    ) from None
                time.sleep(0.005)
        yield


def new_segment(folder: Path, current: str | None) -> Path:
    """Makes an empty folder for the next segment, and removes segments left behind by killed builders.

    Args:
        folder: the folder of the index; the caller has locked it for "building".
        current: name of the current segment, which is kept; None if there is none.
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
    """Removes every folder in an index except the named segment, including those of older layouts.

    The caller has locked the index for "building".
    """
    for path in folder.iterdir():
        if path.is_dir() and path.name != segment:
            shutil.rmtree(path, ignore_errors=True)


def publish(folder: Path, segment: Path, facts: Mapping[str, Any]) -> None:
    """Makes a complete segment, with its log, the current one.

    Args:
        folder: the folder of the index.
        segment: folder of the segment, inside `folder`.
        facts: facts for the manifest; entries that describe the files of an older manifest are omitted.
    """
    files = [path for path in segment.rglob("*") if path.is_file() and path.name not in (LOG, HEAD)]
    facts = {key: value for key, value in facts.items() if key not in ("kind", "version", "sha256", "segment")}
    write_manifest(folder, files, kind=KIND, version=VERSION, segment=segment.name, **facts)
