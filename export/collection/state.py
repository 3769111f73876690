"""The state folder of a collection: its manifest, its lock, and where its indexes, networks and lists are.

    collection.json     the photo folder and the records of the current index and of one that is being built
    collection-copy.json  the same, which is read where collection.json is damaged or gone
    index-001/          an ordinary index folder, which `search` and `serve --index` read as well
    left_out.json       photos without a descriptor, for each index
    models/             networks that were converted or built for this collection
    thumbnails/         small pictures for the page
    lock, running.json  which process uses the folder

Everything in the folder can be made again from the photos. A damaged part is therefore removed and made again.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from keras_retrieval.pipelines.files.cache_folder import CACHE_VARIABLE, cache_folder
from keras_retrieval.pipelines.files.durable import FolderError, check_outside, fingerprint, write_file
from keras_retrieval.pipelines.files.locks import lock

from keras_retrieval.errors import ArgumentError

from .errors import StateBusyError, StateError

log = logging.getLogger("keras_retrieval")

KIND, VERSION, CHECKSUM = "collection", 1, "checksum"
MANIFEST, COPY, LEFT_OUT, LOCK, RUNNING = (
    "collection.json", "collection-copy.json", "left_out.json", "lock", "running.json"
)  # fmt: skip
_INDEX = re.compile(r"index-[0-9]{3,9}")
_DIGITS = 12  # of the hash of the photo folder's path


def default_state(photos: Path) -> Path:
    """Returns the default state folder of a photo folder, in the user's cache folder.

    Args:
        photos: the photo folder.

    Raises:
        ArgumentError: the user has no cache folder.
    """
    cache = cache_folder()
    if cache is None:
        raise ArgumentError(
            f"there is no cache folder for the state of {photos}: name a folder with --state, or in {CACHE_VARIABLE}"
        )
    resolved = photos.resolve()
    digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:_DIGITS]
    return cache / "collections" / f"{resolved.name or 'photos'}-{digest}"


class StateFolder:
    """The state folder of a collection, locked for this process until `close`.

    Args:
        path: the folder, which is made if it does not exist.
        photos: the photo folder.

    Attributes:
        path: the folder.
        recovered: sentences about parts of the folder that were damaged.

    Raises:
        StateBusyError: another process uses the folder.
        StateError: the folder cannot be written, or contains something else than a state.
        FolderError: the folder is inside the photo folder.
    """

    def __init__(self, path: Path, photos: Path) -> None:
        check_outside(path, photos)
        self.path, self.recovered = path, list[str]()
        try:
            path.mkdir(parents=True, exist_ok=True)
            foreign = [entry.name for entry in path.iterdir() if not _is_ours(entry.name)]
            if foreign and not ((path / MANIFEST).exists() or (path / COPY).exists()):
                raise StateError(
                    f"{path} is not the state of a collection (it contains {foreign[0]}): name another folder"
                )
            _make_way(path)
            self._lock: IO[str] | None = (path / LOCK).open("a")
            (path / "models").mkdir(exist_ok=True)
        except FileExistsError:
            raise StateError(f"{path} is a file: name a folder with --state") from None
        except (PermissionError, OSError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(
                f"{path} cannot be written ({(error.strerror or str(error)).lower()}): name another folder with --state"
            ) from error
        try:
            lock(self._lock.fileno(), wait=False)
        except BlockingIOError:
            self._lock.close()
            raise StateBusyError(self._busy(photos)) from None

    def _busy(self, photos: Path) -> str:
        address = _json(self.path / RUNNING).get("address")
        if address:
            return f"{photos} is shown already, at {address}"
        return f"another process uses the state of {photos}, {self.path}: wait for it, stop it, or name another --state"

    def close(self) -> None:
        """Unlocks the folder."""
        if self._lock is not None:
            (self.path / RUNNING).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def announce(self, address: str) -> None:
        """Writes the address of the page that this process shows, for others that are started on the folder."""
        write_file(self.path / RUNNING, json.dumps({"address": address, "pid": os.getpid()}))

    @property
    def models(self) -> Path:
        """The folder of networks that were converted or built for the collection."""
        return self.path.resolve() / "models"

    def manifest(self) -> dict[str, Any]:
        """Reads the manifest, or its copy if it is damaged or gone; the result is empty if both are."""
        path = self.path / MANIFEST
        sound = [found for found in map(_manifest, (path, self.path / COPY)) if found is not None]
        present = path.exists() or (self.path / COPY).exists()
        if not sound and (present or any(self.path.glob("index-*/"))):
            state = "damaged" if present else "gone"
            self.recovered.append(
                f"{path} was {state}, so that the network is chosen and the photos are described again."
            )
        manifest = sound[0] if sound else {}
        for record in filter(None, map(manifest.get, ("current", "next"))):
            own = self.models / Path(record["model"]).name
            if own.suffix and own.is_file() and not Path(record["model"]).is_file():
                record["model"] = str(own)  # the state was moved
        return manifest

    def write_manifest(self, facts: Mapping[str, Any]) -> None:
        """Replaces the manifest and then its copy, each atomically.

        Raises:
            OSError: the manifest cannot be written.
        """
        kept = {name: value for name, value in facts.items() if name != CHECKSUM}
        document = {"kind": KIND, "version": VERSION, **kept}
        text = json.dumps({**document, CHECKSUM: fingerprint(document)}, indent=1, ensure_ascii=False)
        for name in (MANIFEST, COPY):
            write_file(self.path / name, text + "\n")

    def left_out(self, index: str) -> dict[str, list[Any]]:
        """Reads the photos without a descriptor in an index.

        Args:
            index: the name of the index folder, such as "index-001".

        Returns:
            A dict from the name of each photo to [reason, size in bytes, modification time in ns].
        """
        found = _json(self.path / LEFT_OUT).get(index, {})
        rows = found.items() if isinstance(found, dict) else ()
        return {name: row for name, row in rows if _is_left_out(row)}

    def write_left_out(self, index: str, photos: Mapping[str, list[Any]]) -> None:
        """Replaces the photos without a descriptor in an index; those of other existing indexes stay."""
        others = {name: rows for name, rows in _json(self.path / LEFT_OUT).items() if (self.path / name).is_dir()}
        write_file(self.path / LEFT_OUT, json.dumps({**others, index: dict(photos)}, ensure_ascii=False))

    def new_index(self) -> str:
        """Returns the name of a folder for a new index, after the highest number in use."""
        numbers = [int(number) for path in self.path.glob("index-*") if (number := path.name[6:9]).isdigit()]
        return f"index-{max(numbers, default=0) + 1:03}"

    def remove_indexes(self, *kept: str) -> None:
        """Removes all index folders, also unfinished ones, except those with these names."""
        for path in self.path.glob("index-*"):
            if path.name.partition(".")[0] not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _make_way(path: Path) -> None:
    """Removes folders in the place of files, and a file in the place of a folder, as a repair of a disk may leave."""
    for name in (MANIFEST, COPY, LEFT_OUT, LOCK, RUNNING):
        if (path / name).is_dir():
            shutil.rmtree(path / name)
    if (path / "models").is_file():
        (path / "models").unlink()


def _manifest(path: Path) -> dict[str, Any] | None:
    """The manifest in a file; None if it is damaged or gone."""
    found = _json(path)
    checksum = found.pop(CHECKSUM, None)
    if checksum != fingerprint(found) or found.get("kind") != KIND or found.get("version") != VERSION:
        return None
    return found if all(_is_record(found.get(key)) for key in ("current", "next")) else None


def _is_left_out(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and all(type(n) is int for n in row[1:])


def _is_ours(name: str) -> bool:
    return name.startswith((".", "index-")) or name in (
        MANIFEST,
        COPY,
        LEFT_OUT,
        LOCK,
        RUNNING,
        "models",
        "thumbnails",
        "training",
        "precision.json",
    )


def _is_record(record: Any) -> bool:
    """Whether an entry of the manifest is an index with its network, or None."""
    kinds = {"index": str, "model": str, "identity": dict, "size": int, "bfloat16": bool}
    return record is None or (
        isinstance(record, dict)
        and all(isinstance(record.get(key), kind) for key, kind in kinds.items())
        and _INDEX.fullmatch(record["index"]) is not None
    )


def _json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


__all__ = ["FolderError", "StateFolder", "default_state"]
