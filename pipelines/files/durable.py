"""How a folder is written: beside its place, synced, then renamed, with a manifest that says what is in it.

A reader either sees no folder or a whole one. Work that takes long keeps its finished files in `NAME.partial`
until the end, so that a killed run can go on from there. Files whose names begin with a dot are notes of that work:
they are no part of the folder and are gone once it stands.
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
    """A folder is missing, incomplete, changed, or of a kind or version that this code does not read."""


def partial_of(folder: Path) -> Path:
    """The folder `NAME.partial` beside `folder`, where it grows until it is whole."""
    return folder.with_name(f"{folder.name}.partial")


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file so that its name only ever stands for the whole content: temporary name, sync, rename."""
    with _whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_array(path: Path, array: np.ndarray) -> None:
    """`write_file` for one array in .npy form; never a pickle."""
    with _whole(path) as file:
        np.save(file, array, allow_pickle=False)


def write_names(path: Path, names: Sequence[str]) -> None:
    """Writes names, one JSON string a line, so that a name may hold any character, line breaks too."""
    text = "".join(json.dumps(name, ensure_ascii=False) + "\n" for name in names)
    # Half of a surrogate pair, as Python shows a file name that is no UTF-8, becomes JSON's escape of it.
    write_file(path, text.encode(errors="backslashreplace"))


def read_names(path: Path) -> list[str]:
    """Reads what `write_names` wrote.

    Raises:
        FolderError: the file is not text or ends within a line, or a line is no JSON string; the message names it.
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
            raise FolderError(f"{path}, line {row}: not a name in JSON form: {line[:80]!r}")
        names.append(name)
    return names


def read_json(path: Path) -> Any:
    """Reads the notes that a step keeps of its work.

    Raises:
        FolderError: the file is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{path} is damaged ({error}): remove {path.parent}, or name another folder") from error


def kind_of(folder: Path) -> str | None:
    """What a folder says that it holds; None where it says nothing that can be read."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def check_free(folder: Path, *, kind: str, replace: bool) -> None:
    """Refuses to write where something would be lost.

    Args:
        folder: where a folder is to be written.
        kind: of that folder.
        replace: an empty folder, or one of the same kind, may be replaced.

    Raises:
        FolderError: something is there that may not be replaced.
    """
    if not folder.exists():
        return
    if not replace:
        raise FolderError(f"{folder} exists already: name another folder, or replace it")
    if kind_of(folder) != kind and not (folder.is_dir() and not any(folder.iterdir())):
        raise FolderError(f"{folder} is no folder of {kind} and will not be replaced: name another folder")


def seal(partial: Path, folder: Path, *, kind: str, version: int, replace: bool = False, **facts: Any) -> Path:
    """Turns a finished partial folder into the real one: manifest, sync, rename.

    Args:
        partial: the folder with all files written.
        folder: its final place, on the same file system.
        kind: what the folder is, such as "descriptors"; `read_manifest` asks for it.
        version: the version of that kind's layout.
        replace: an existing `folder` of the same kind is taken away first; without it, it is an error.
        **facts: what else the manifest says: counts, options, what made it. Must be JSON.

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
    """Syncs files of a folder to the disk and then writes, or replaces in one go, the manifest that vouches for them.

    Args:
        folder: it and its manifest's place.
        files: in the folder, at any depth.
        kind: what the folder is.
        version: the version of that kind's layout.
        **facts: what else the manifest says; must be JSON.
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
        folder: what `seal` made.
        kind: the kind that is expected.
        version: the newest version of it that the caller reads.
        verify: also compare every file's SHA-256 with the manifest; without it only their presence is checked.

    Returns:
        The manifest.

    Raises:
        FolderError: with the file and what to do.
    """
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = partial_of(folder)
        hint = f"; {unfinished} is unfinished: run its step again" if unfinished.exists() else ""
        problem = f"holds no {MANIFEST}: it is not a folder of {kind}"
        if not folder.is_dir():
            problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FolderError(f"{folder} {problem}{hint}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, found_version, sums = manifest["kind"], int(manifest["version"]), dict(manifest["sha256"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FolderError(f"{path} is damaged ({error}): make the folder again") from error
    if found != kind:
        raise FolderError(f"{folder} holds {found}, not {kind}")
    if found_version > version:
        raise FolderError(
            f"{folder} has layout {found_version} of {kind}, and this version reads up to {version}: "
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
    """A short hash of JSON-able parts, to tell whether two runs would make the same thing."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """A temporary path to write a file at, which is synced and renamed to `path` when all went well.

    Args:
        path: the file's final place; one that stands there is replaced. The temporary path has the same suffix.
    """
    # Two runs may write the same file: neither must rename what the other is still writing.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.writing{path.suffix}")
    try:
        yield temporary
        _sync_file(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    with whole_path(path) as temporary, temporary.open("wb") as file:
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
