"""Writes files and folders durably: under a temporary name, synced to the disk, then renamed to the final name.

A reader sees either no folder or a complete folder, whose manifest.json lists the folder's files with their SHA-256
checksums. A folder NAME is written as `NAME.partial`, which stays after a killed run, so that the run can be continued.
Files in it whose names begin with a dot record the progress of the run; they are not listed in the manifest, and are
deleted when the folder is complete.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from keras_retrieval.errors import RetrievalError

from .arrays import write_npy
from .remote import MissingFileError, address_of, named, remote_folder
from .space import naming_full_disk

MANIFEST = "manifest.json"
_ENCODED = 1024  # states of files that are encoded at a time


class FolderError(RetrievalError, ValueError):
    """A folder is missing, incomplete or damaged, or its kind or version does not allow it to be read or replaced."""


def partial_of(folder: Path) -> Path:
    """Returns the path `NAME.partial` beside `folder`, where `folder` is written until it is complete.

    Raises:
        FolderError: the path ends in no name, such as "." and "..".
    """
    if not _has_name(folder):
        raise FolderError(f"{folder} cannot be replaced while it is in use: name a new folder, such as out")
    return folder.with_name(f"{folder.name}.partial")


def _has_name(folder: Path) -> bool:
    return folder.name not in ("", "..")


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file atomically: writes a temporary file, syncs the temporary file and renames it to `path`.

    Args:
        path: the file to write; an existing file is replaced.
        content: the bytes of the file, or text, which is encoded as UTF-8. Lone surrogates, by which Python represents
            file names that are not UTF-8, are written as escapes that JSON accepts.

    Raises:
        DiskSpaceError: the disk is full.
        OSError: the file cannot be written.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with _atomic_file(path, len(data)) as file:
        file.write(data)


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an array as a .npy file atomically.

    Args:
        path: the file to write; an existing file is replaced.
        array: an array of any data type except Python objects, which NumPy could write only as a pickle.

    Raises:
        DiskSpaceError: the disk is full.
        OSError: the file cannot be written.
        ValueError: the array contains Python objects.
    """
    with _atomic_file(path, array.nbytes) as file:
        write_npy(file, array)


def write_names(path: Path, names: Sequence[str]) -> None:
    """Writes names to a UTF-8 text file, one name per line.

    Each line is a JSON string, so that a name may contain any character, even a line break.
    """
    write_file(path, names_text(names))


def names_text(names: Sequence[str]) -> str:
    """The text that `write_names` writes."""
    return "".join(json.dumps(name, ensure_ascii=False) + "\n" for name in names)


def read_names(path: Path, runs: bool = False) -> list[str]:
    """Reads the names in a file that `write_names` wrote.

    Args:
        path: the file.
        runs: whether a name may be that of several successive lines, such as those of a photo's crops.

    Raises:
        FolderError: the file is not UTF-8 text, does not end with a line break, has a line that is not a JSON string,
            or repeats a name.
        OSError: the file cannot be read.
    """
    names = _names_in(path)
    _require_distinct(path, names, runs)
    return names


def _names_in(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FolderError(f"{path} is damaged ({error}): make the folder again") from error
    *lines, last = text.split("\n")
    if last:
        raise FolderError(f"{path} is cut off in line {len(lines) + 1}: make the folder again")
    if (parsed := _parsed_at_once(text, len(lines))) is not None:
        return parsed
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


def _require_distinct(path: Path, names: Sequence[str], runs: bool) -> None:
    """Raises FolderError if a name is repeated, in `runs` other than in the lines directly after its first."""
    if len(set(names)) == len(names):
        return
    lines: dict[str, int] = {}
    for line, name in enumerate(names, start=1):
        earlier = lines.setdefault(name, line)
        if earlier == line:
            continue
        if not runs or earlier != line - 1:
            raise FolderError(
                f"{path}, line {line}: {name!r} is also the name in line {earlier}: make the folder again"
            )
        lines[name] = line


def _parsed_at_once(text: str, count: int) -> list[str] | None:
    """The names in `count` lines, in a fifth of the time of parsing each; None if a line may not be one JSON string."""
    quoted = text[:1] == '"' and text.endswith('"\n') and text.count('"\n"') == count - 1
    # The last quote of a line may be one of the name, or also the first.
    if not quoted or '\\"\n' in text or text.startswith('"\n') or '\n"\n' in text:
        return None
    try:
        names = json.loads(f"[{text[:-1].replace(chr(10), ',')}]")
    except (ValueError, RecursionError):
        return None
    return names if len(names) == count and {*map(type, names)} == {str} else None


def read_json(path: Path) -> Any:
    """Reads and parses a JSON file in a folder that this package wrote.

    Raises:
        FolderError: the file is not valid JSON in UTF-8.
        OSError: the file cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{path} is damaged ({error}): remove {path.parent}, or name another folder") from error


def kind_of(folder: Path) -> str | None:
    """Returns the kind that a folder's manifest declares, such as "descriptors".

    Returns:
        The kind, or None if the folder has no manifest.json or its manifest cannot be read.
    """
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def check_free(folder: Path, *, kind: str, replace: bool) -> None:
    """Checks that a folder can be written without overwriting files of another kind.

    Args:
        folder: the path of the folder to be written.
        kind: the kind of the folder to be written, such as "descriptors".
        replace: whether an existing folder may be replaced if it is empty or its manifest declares the same kind.
            Without `replace`, nothing may exist at the path.

    Raises:
        FolderError: a file or folder that may not be replaced exists at the path.
    """
    if not folder.exists():
        return
    if not replace:
        raise FolderError(f"{folder} exists already: name another folder, or give replace=True")
    if kind_of(folder) != kind and not (folder.is_dir() and not any(folder.iterdir())):
        raise FolderError(f"{folder} is not a folder of {kind} and will not be replaced: name another folder")


def check_outside(folder: Path, photos: Path) -> None:
    """Checks that an output folder is not inside the folder of input photos.

    Args:
        folder: the output folder, or an address; it need not exist.
        photos: the folder of the input photos, or an address.

    Raises:
        FolderError: `folder` is `photos` or inside it, so that the next run would read its output files as photos.
    """
    there, address = address_of(folder), address_of(photos)
    if there or address:
        inside = bool(there and address) and f"{there}/".startswith(f"{address}/")
    else:
        inside = folder.resolve().is_relative_to(photos.resolve())
    if inside:
        raise FolderError(
            f"{named(folder)} is inside {named(photos)}, and its files would be taken for photos: name another folder"
        )


def seal(partial: Path, folder: Path, *, kind: str, version: int, replace: bool = False, **facts: Any) -> Path:
    """Completes a folder: syncs its files, writes its manifest and renames the folder to its final name.

    Args:
        partial: the folder in which all files have been written.
        folder: the final path of the folder, on the same file system as `partial`.
        kind: the kind of folder, such as "descriptors", which `read_manifest` compares with the expected kind.
        version: the version of the file layout of this kind of folder.
        replace: whether an existing `folder` is replaced if it is empty or of the same kind.
        **facts: further entries of the manifest, such as counts, options and the source; serialisable as JSON.

    Returns:
        The argument `folder`.

    Raises:
        FolderError: `folder` exists and may not be replaced, see `check_free`.
        OSError: a file cannot be written, or the folder cannot be renamed.
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
    for note in (*folder.glob(".*"), *folder.rglob(".*.writing*")):  # a killed worker leaves what it was writing
        note.unlink(missing_ok=True)
    return folder


def write_manifest(
    folder: Path,
    files: Sequence[Path],
    *,
    kind: str,
    version: int,
    sha256: Callable[[Path], str] | None = None,
    **facts: Any,
) -> None:
    """Syncs the files of a folder to the disk and then writes the folder's manifest.json atomically.

    Args:
        folder: the folder; its manifest is replaced if it has one.
        files: the paths of the files to list in the manifest, in the folder or its sub-folders.
        kind: the kind of folder, such as "descriptors".
        version: the version of the file layout of this kind of folder.
        sha256: function that returns the SHA-256 of a file; None for `sha256_of`.
        **facts: further entries of the manifest, serialisable as JSON.
    """
    files = sorted(files)
    sums = {path.relative_to(folder).as_posix(): (sha256 or sha256_of)(path) for path in files}
    for path in files:
        _sync_file(path)
    for parent in {path.parent for path in files}:
        _sync_folder(parent)
    write_file(folder / MANIFEST, manifest_text(sums, kind=kind, version=version, **facts))


def manifest_text(sums: Mapping[str, str], *, kind: str, version: int, **facts: Any) -> str:
    """The content of a manifest; `sums` maps the name of each file to its SHA-256, and the rest is as for `seal`."""
    manifest = {"kind": kind, "version": version, **facts, "sha256": sums}
    manifest["checksum"] = fingerprint(manifest)
    return json.dumps(manifest, indent=1) + "\n"


def read_manifest(
    folder: Path, *, kind: str, version: int, verify: bool | Callable[[Path], str] = False
) -> dict[str, Any]:
    """Reads and checks a folder's manifest.

    Args:
        folder: a folder that `seal` completed, or the address of one; there only manifest.json is read.
        kind: the expected kind, such as "descriptors".
        version: the newest version of the file layout that the caller can read.
        verify: whether to compare the SHA-256 checksum of every file with the manifest, or the function that returns
            the checksum of a file. Otherwise only the presence of the files is checked. Not for addresses.

    Returns:
        The manifest: "kind", "version", "sha256" (maps each file's name to its checksum) and the entries that were
        passed to `seal`.

    Raises:
        FolderError: the folder does not exist, is unfinished or damaged, is of another kind, or has a newer layout. The
            message names the file and the fix.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    manifest = parse_manifest(manifest_content(folder, kind), folder, kind=kind, version=version)
    sha256 = verify if callable(verify) else sha256_of if verify else None
    for name, expected in () if remote_folder(folder) else manifest["sha256"].items():
        file = folder / name
        if not file.is_file():
            raise FolderError(f"{file} is missing: make the folder again")
        if sha256 is not None and sha256(file) != expected:
            raise FolderError(f"{file} has changed since it was written: make the folder again")
    return manifest


def parse_manifest(text: str | bytes, folder: Path, *, kind: str, version: int) -> dict[str, Any]:
    """Parses and checks the text of a manifest, as `read_manifest` does, but not the files that it lists.

    Args:
        text: the content of manifest.json.
        folder: the folder, for messages.
        kind: the expected kind.
        version: the newest version of the file layout that the caller can read.

    Raises:
        FolderError: the text is damaged, of another kind, or of a newer layout.
    """
    path = f"{named(folder)}/{MANIFEST}"
    try:
        manifest = json.loads(text)
        found, found_version, sums = manifest["kind"], int(manifest["version"]), manifest["sha256"]
        manifest["sha256"] = dict(sums)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FolderError(f"{path} is damaged ({error}): make the folder again") from error
    if found != kind:
        raise FolderError(f"{named(folder)} contains {found}, not {kind}")
    if found_version > version:
        raise FolderError(
            f"{named(folder)} has layout {found_version} of {kind}, and this keras-retrieval reads up to {version}: "
            "update with pip install -U keras-retrieval"
        )
    if manifest.pop("checksum", None) != fingerprint(manifest):
        raise FolderError(f"{path} has changed since it was written: make the folder again")
    return manifest


def manifest_content(folder: Path, kind: str) -> bytes:
    """Reads a folder's manifest, also at an address.

    Args:
        folder: the folder.
        kind: the expected kind, for messages.

    Raises:
        FolderError: there is none.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    if remote := remote_folder(folder):
        try:
            return remote.read(MANIFEST)
        except MissingFileError as error:
            raise FolderError(
                f"{named(folder)} does not contain {MANIFEST}: it is not a folder of {kind}, or its step has not ended"
            ) from error
    path = folder / MANIFEST
    if not path.is_file():
        hint = ""
        if _has_name(folder) and (unfinished := partial_of(folder)).exists():
            hint = f"; {unfinished} is unfinished: run its step again"
        problem = f"does not contain {MANIFEST}: it is not a folder of {kind}"
        if not folder.is_dir():
            problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FolderError(f"{folder} {problem}{hint}")
    return path.read_bytes()


def has_manifest(folder: Path) -> bool:
    """Returns whether a folder, which may be at an address, has a manifest.

    Raises:
        RemoteError: the storage of an address does not answer, or refuses.
    """
    if remote := remote_folder(folder):
        return remote.has(MANIFEST)
    return (folder / MANIFEST).is_file()


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Encoded:
    """A part of a fingerprint that is already JSON, such as the states of a million photos."""

    text: bytes


def encoded(part: Any) -> Encoded:
    """Encodes a large part of several fingerprints once; the fingerprints do not change by it."""
    return Encoded(json.dumps(part, sort_keys=True).encode())


@dataclass(frozen=True)
class FileStates:
    """The states of files, by which a change of a file is noticed, in columns, since there may be a million.

    Attributes:
        sizes: the size of each file in bytes; None where a storage does not say it.
        tags: the modification time of each file in ns; or texts, such as the etags that a storage says.
    """

    sizes: Sequence[int | None] = ()
    tags: Sequence[int] | Sequence[str] = ()

    def by_name(self, names: Sequence[str]) -> dict[str, "State"]:
        """Maps the names of the files, in their order, to their states."""
        return dict(zip(names, zip(self.sizes, self.tags, strict=True), strict=True))


State = tuple[int | None, int | str]
"""Size in bytes, None where a storage does not say it, and modification time in ns, or etag, of a file."""


def encoded_states(names: Sequence[str], states: FileStates) -> Encoded:
    """Encodes the list of the lists [name, size, time or etag] of files as `encoded` does, in a third of the time."""
    text, parts = json.encoder.encode_basestring_ascii, []
    for start in range(0, len(names), _ENCODED):
        some = slice(start, start + _ENCODED)
        sizes = ["null" if size is None else size for size in states.sizes[some]]
        tags = [text(tag) if isinstance(tag, str) else tag for tag in states.tags[some]]
        lists = [f"[{text(name)}, {size}, {tag}]" for name, size, tag in zip(names[some], sizes, tags, strict=True)]
        parts.append(", ".join(lists).encode())
    return Encoded(b"[" + b", ".join(parts) + b"]")


def fingerprint(*parts: Any) -> str:
    """Computes a short hash of a run's options and inputs, by which an equal run is recognised.

    Args:
        *parts: everything that determines the output of the run; serialisable as JSON, or `encoded`.

    Returns:
        The first 16 hexadecimal digits of the SHA-256 of the parts as JSON.
    """
    digest = hashlib.sha256(b"[")
    for number, part in enumerate(parts):
        digest.update(b", " if number else b"")
        digest.update((part if isinstance(part, Encoded) else encoded(part)).text)
    digest.update(b"]")
    return digest.hexdigest()[:16]


@contextmanager
def atomic_path(path: Path, *, sync: bool = True, size: int = 0) -> Iterator[Path]:
    """Context manager that yields a temporary path, and renames the file written there to `path` at the end.

    If an exception is raised in the block, the temporary file is deleted and `path` stays unchanged.

    Args:
        path: the final path of the file; an existing file is replaced.
        sync: whether to sync the file to the disk before it is renamed. Without the sync, the file may be empty after a
            power failure, but is still complete after a killed process.
        size: the number of bytes of the file, for the error of a full disk; 0 if that is not known.

    Yields:
        The temporary path, in the same folder and with the same suffix as `path`.

    Raises:
        DiskSpaceError: the disk is full, whichever error the block raised for it.
    """
    # Two processes, or two machines, may write the same file.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(6)}.writing{path.suffix}")
    with naming_full_disk(path, size):
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
def _atomic_file(path: Path, size: int) -> Iterator[IO[bytes]]:
    with atomic_path(path, size=size) as temporary, _naming(path), temporary.open("wb") as file:
        yield file


def _is_note(path: Path) -> bool:
    return path.name == MANIFEST or path.name.startswith(".")


_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""The errors by which file systems refuse fsync: SMB shares, shared folders of virtual machines, WSL."""


def sync(descriptor: int) -> None:
    """Syncs an open file or folder to the disk, where the file system is able to.

    Args:
        descriptor: the number of the open file, as `fileno` returns it.

    Raises:
        OSError: the disk failed or is full. A file system that does not offer the operation is no error.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync_file(path: Path) -> None:
    with path.open("rb") as file, _naming(path):
        sync(file.fileno())


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # some file systems do not open folders
        return
    try:
        with _naming(folder):
            sync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Context manager that adds a path to an OSError that names none, as those of open files do."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
