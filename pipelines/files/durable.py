"""Durable files and folders: written under a temporary name, synced to the disk, then renamed.

A reader sees either no folder or a complete one, with a manifest of its files and their checksums. A folder grows in
`NAME.partial`, where a killed run can be continued. Files whose names begin with a dot are notes of that work: they are
not part of the folder, and are deleted when it is complete.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from keras_retrieval.errors import RetrievalError

MANIFEST = "manifest.json"


class FolderError(RetrievalError, ValueError):
    """A folder is missing, incomplete, damaged, or of a kind or version that cannot be read or replaced."""


class ShortWriteError(RetrievalError, OSError):
    """An array was written only in part."""


def partial_of(folder: Path) -> Path:
    """The folder `NAME.partial` beside `folder`, in which it is written until it is complete."""
    return folder.with_name(f"{folder.name}.partial")


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file atomically: writes a temporary file, syncs it and renames it to `path`."""
    with _atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an array as .npy file atomically; never as a pickle.

    Raises:
        ShortWriteError: only a part was written.
        OSError: the file cannot be written.
    """
    with _atomic_file(path) as file:
        try:
            np.save(file, array, allow_pickle=False)
        except OSError as error:
            if error.errno is not None:
                raise
            # NumPy's message of a short write is only "2048 requested and 992 written".
            raise ShortWriteError(f"{path} could not be written completely, is the disk full? {error}") from error


def write_names(path: Path, names: Sequence[str]) -> None:
    """Writes names, one JSON string a line, so that a name may contain any character, also line breaks."""
    text = "".join(json.dumps(name, ensure_ascii=False) + "\n" for name in names)
    # Python represents a file name that is not UTF-8 with lone surrogates, which become JSON escapes.
    write_file(path, text.encode(errors="backslashreplace"))


def read_names(path: Path) -> list[str]:
    """Reads names that `write_names` wrote.

    Raises:
        FolderError: the file is not text, ends within a line, or has a line that is not a JSON string.
    """
    try:
        *lines, last = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise FolderError(f"{path} is damaged ({error}): make the folder again") from error
    if last:
        raise FolderError(f"{path} is cut off in line {len(lines) + 1}: make the folder again")
    names = []
    for row, line in enumerate(lines, start=1):
        try:
            name = json.loads(line)
        except ValueError:
            name = None
        if not isinstance(name, str):
            raise FolderError(f"{path}, line {row}: not a name as a JSON string: {line[:80]!r}")
        names.append(name)
    return names


def read_json(path: Path) -> Any:
    """Reads a JSON file in a folder that this package wrote.

    Raises:
        FolderError: the file is not JSON.
        OSError: the file cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{path} is damaged ({error}): remove {path.parent}, or name another folder") from error


def kind_of(folder: Path) -> str | None:
    """The kind in a folder's manifest; None if there is no manifest that can be read."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def check_free(folder: Path, *, kind: str, replace: bool) -> None:
    """Checks that a folder can be written without overwriting anything else.

    Args:
        folder: the path of the folder to be written.
        kind: the kind of that folder.
        replace: whether an empty folder, or one of the same kind, may be replaced.

    Raises:
        FolderError: something that may not be replaced exists at this path.
    """
    if not folder.exists():
        return
    if not replace:
        raise FolderError(f"{folder} exists already: name another folder, or give replace=True")
    if kind_of(folder) != kind and not (folder.is_dir() and not any(folder.iterdir())):
        raise FolderError(f"{folder} is not a folder of {kind} and will not be replaced: name another folder")


def check_outside(folder: Path, photos: Path) -> None:
    """Checks that a folder to be written is not inside the folder of photos that are read.

    Raises:
        FolderError: the folder is inside, so that the next run would read its images as photos.
    """
    if folder.resolve().is_relative_to(photos.resolve()):
        raise FolderError(f"{folder} is inside {photos}, and its images would be taken for photos: name another folder")


def seal(partial: Path, folder: Path, *, kind: str, version: int, replace: bool = False, **facts: Any) -> Path:
    """Completes a folder: writes its manifest, syncs it and renames it to its final name.

    Args:
        partial: the folder with all files written.
        folder: its final path, on the same file system.
        kind: the kind of folder, such as "descriptors"; `read_manifest` checks it.
        version: the version of the layout of that kind.
        replace: whether an existing `folder` of the same kind is replaced.
        **facts: further entries of the manifest: counts, options, the source. JSON-able.

    Returns:
        `folder`.

    Raises:
        FolderError: `folder` exists and may not be replaced, see `check_free`.
    """
    check_free(folder, kind=kind, replace=replace)
    files = [path for path in partial.rglob("*") if path.is_file() and not _is_note(path)]
    write_manifest(partial, files, kind=kind, version=version, **facts)
    old = folder.with_name(f".{folder.name}.replaced")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    partial.rename(folder)
    _sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
    for note in folder.glob(".*"):
        note.unlink(missing_ok=True)
    return folder


def write_manifest(folder: Path, files: Sequence[Path], *, kind: str, version: int, **facts: Any) -> None:
    """Syncs the files of a folder to the disk and then writes their manifest, or replaces it atomically.

    Args:
        folder: the folder.
        files: the files to list in the manifest, in the folder at any depth.
        kind: the kind of folder.
        version: the version of the layout of that kind.
        **facts: further entries of the manifest, JSON-able.
    """
    files = sorted(files)
    sums = {path.relative_to(folder).as_posix(): _sha256(path) for path in files}
    manifest = {"kind": kind, "version": version, **facts, "sha256": sums}
    manifest["checksum"] = fingerprint(manifest)
    for path in files:
        _sync_file(path)
    for parent in {path.parent for path in files}:
        _sync_folder(parent)
    write_file(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def read_manifest(folder: Path, *, kind: str, version: int, verify: bool = False) -> dict[str, Any]:
    """Reads and checks a folder's manifest.

    Args:
        folder: a folder that `seal` completed.
        kind: the expected kind.
        version: the newest version of its layout that the caller can read.
        verify: whether to compare the SHA-256 of every file, too; otherwise only their presence is checked.

    Returns:
        The manifest.

    Raises:
        FolderError: the folder does not exist, is unfinished, of another kind or newer version, or damaged. The message
            names the file and the fix.
    """
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = partial_of(folder)
        hint = f"; {unfinished} is unfinished: run its step again" if unfinished.exists() else ""
        problem = f"does not contain {MANIFEST}: it is not a folder of {kind}"
        if not folder.is_dir():
            problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FolderError(f"{folder} {problem}{hint}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, found_version, sums = manifest["kind"], int(manifest["version"]), dict(manifest["sha256"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FolderError(f"{path} is damaged ({error}): make the folder again") from error
    if found != kind:
        raise FolderError(f"{folder} contains {found}, not {kind}")
    if found_version > version:
        raise FolderError(
            f"{folder} has layout {found_version} of {kind}, and this keras-retrieval reads up to {version}: "
            "update with pip install -U keras-retrieval"
        )
    if manifest.pop("checksum", None) != fingerprint(manifest):
        raise FolderError(f"{path} has changed since it was written: make the folder again")
    for name, expected in sums.items():
        file = folder / name
        if not file.is_file():
            raise FolderError(f"{file} is missing: make the folder again")
        if verify and _sha256(file) != expected:
            raise FolderError(f"{file} has changed since it was written: make the folder again")
    return manifest


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-able parts; runs with the same fingerprint produce the same output."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def atomic_path(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Gives a temporary path to write a file at, and renames it to `path` unless an exception is raised.

    Args:
        path: the final path of the file; an existing file is replaced.
        sync: whether to sync the file to the disk before it is renamed. Without it, a file may be empty after a power
            failure, but not after a kill.

    Yields:
        A path in the same folder with the same suffix.
    """
    # The process number keeps two runs that write the same file apart.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.writing{path.suffix}")
    try:
        yield temporary
        if sync:
            _sync_file(temporary)
        temporary.replace(path)
        if sync:
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _atomic_file(path: Path) -> Iterator[IO[bytes]]:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        yield file


def _is_note(path: Path) -> bool:
    return path.name == MANIFEST or path.name.startswith(".")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
