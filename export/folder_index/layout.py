"""The place of an index on disk: a manifest that names and vouches for one segment of files, and its locks.

INDEX/manifest.json is replaced in one go, so that a reader finds the old segment or the new one, wherever a writer
was killed; what it left is cleared away by the next. INDEX/segment-N holds rows, names, columns, ScaNN's files
(all in the manifest, with their SHA-256) and the log of changes since (write_ahead_log.py), which vouches for itself.
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

from .write_ahead_log import HEAD, LOG, FileStamp, file_stamp

KIND, VERSION = "ScaNN index", 3
_PREFIX = "segment-"


def read_index(folder: Path) -> dict[str, Any]:
    """The manifest of an index whose every file is as it was written.

    Raises:
        FolderError: it is no index, of a newer or older layout, or a file is missing or has changed.
    """
    while True:
        before = stamp(folder)
        try:
            manifest = read_manifest(folder, kind=KIND, version=VERSION, verify=True)
            break
        except FolderError:
            if stamp(folder) == before:
                raise
    if manifest["version"] != VERSION:
        raise FolderError(f"{folder} has layout {manifest['version']}, which is no longer read: index again")
    return manifest


def stamp(folder: Path) -> FileStamp:
    """What changes whenever another segment is published."""
    return file_stamp(folder / MANIFEST)


def current_segment(folder: Path) -> str | None:
    """The name of the segment that an index, which may be damaged, says it has; None where it says none."""
    try:
        return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["segment"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


@contextmanager
def locked(folder: Path, what: str, wait: float = 10.0) -> Iterator[None]:
    """Keeps all other threads and processes from the same: "writing" a change, or "building" a segment.

    Raises:
        TimeoutError: another one did it for all of `wait` seconds.
    """
    with (folder / f".{what}").open("a") as file:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"another process is {what} {folder}: wait for it, or stop it") from None
                time.sleep(0.005)
        yield


def new_segment(folder: Path, current: str | None) -> Path:
    """An empty folder for the next segment. What killed builders left is removed; call it while "building"."""
    places = list(folder.glob(f"{_PREFIX}*"))
    number = 1 + max((int(place.name.removeprefix(_PREFIX)) for place in places), default=0)
    for place in places:
        if place.name != current:
            shutil.rmtree(place, ignore_errors=True)
    segment = folder / f"{_PREFIX}{number:06}"
    (segment / "scann").mkdir(parents=True)
    return segment


def remove_other_segments(folder: Path, segment: str) -> None:
    """Removes every folder in an index but that segment, those of older layouts too; call it while "building"."""
    for place in folder.iterdir():
        if place.is_dir() and place.name != segment:
            shutil.rmtree(place, ignore_errors=True)


def publish(folder: Path, segment: Path, facts: Mapping[str, Any]) -> None:
    """Makes a segment, its log begun, the one that readers of the folder find.

    Args:
        folder: of the index.
        segment: in it, whole.
        facts: for the manifest; what an older manifest says of its own files is left out.
    """
    files = [path for path in segment.rglob("*") if path.is_file() and path.name not in (LOG, HEAD)]
    facts = {key: value for key, value in facts.items() if key not in ("kind", "version", "sha256", "segment")}
    write_manifest(folder, files, kind=KIND, version=VERSION, segment=segment.name, **facts)
