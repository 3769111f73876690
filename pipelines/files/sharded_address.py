"""Writes a folder at an address shard by shard, as `shards` does on a disk; storages of objects cannot rename.

The files of a shard are written under keys of their own, such as descriptors-00003-4b1f0c9d2a67.npy, and then the
shard's note, which names them with their checksums. The notes, the plan and the rows of unfinished shards are below
`.partial/FINGERPRINT/`. Several processes may finish the same shard: the note that is read last counts, and the files
that it does not name are removed. When all shards are finished, names.txt and left_out.json are written, and last the
manifest, which lists the files. So a reader that begins with the manifest never sees an unfinished folder.

Files whose names matter to the user, such as edge maps, are written under these names, which are stored below
`.partial/` first, so that a later run knows them for its own. The manifest of a folder that they replace is removed
before the first of them is written. A process that waits for the storage writes nothing after another run has started
over: before it repeats an upload, it looks whether its run is still there.
"""

import json
import logging
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from keras_retrieval.errors import RetrievalError

from .durable import MANIFEST, FolderError, manifest_text, names_text, read_manifest, sha256_of
from .remote import READERS, FileState, MissingFileError, RemoteError, RemoteFolder, named, remote_folder
from .remote_errors import shown
from .shards import (
    LEFT_OUT,
    NAMES,
    Part,
    Plan,
    PlanError,
    ShardedFolder,
    damaged_notes,
    distinct_parts,
    joined_notes,
    left_out_text,
    packed,
    parsed_note,
    plan_text,
    stored_plan,
    unpacked,
    without_finished,
)
from .space import DiskSpaceError

log = logging.getLogger("keras_retrieval")

Shard = TypeVar("Shard")

WORK = ".partial"
RUN, PLAN = "run", "plan.json"
_OF_A_SHARD = re.compile(r"(descriptors|boxes|features|photos)-\d{5,}-[0-9a-f]{12}\.(npy|parquet)")
_KEYS = re.compile(rf"{re.escape(WORK)}/[^/]+/keys-[^/]+\.json")


def sharded_folder(
    folder: Path,
    kind: str,
    version: int,
    fingerprint: str,
    newest: int | None = None,
    *,
    own_names: bool = False,
    inside: Mapping[str, str] = MappingProxyType({}),
) -> "Sharded":
    """Returns what writes a folder shard by shard, on a disk or at an address; see `ShardedFolder`.

    Args:
        folder: the folder, or an address as a path.
        kind: as for `ShardedFolder`, like the next three.
        version: the version of the layout.
        fingerprint: the hash of everything that determines the content.
        newest: the newest version of the layout that an existing folder may have.
        own_names: whether the files are to have the names with which they are written, also at an address.
        inside: maps the name of each folder that another step writes into this one to its kind. It goes with the
            folder when that is replaced.
    """
    if remote_folder(folder):
        return ShardedAddress(folder, kind, version, fingerprint, newest, own_names, dict(inside))
    return ShardedFolder(folder, kind, version, fingerprint, newest)


@dataclass(frozen=True)
class ShardedAddress:
    """Writes a folder at an address shard by shard; attributes and methods are those of `ShardedFolder`.

    Attributes:
        own_names: whether files have the names with which they were written; see `sharded_folder`.
        inside: the folders inside this one and their kinds; see `sharded_folder`.
    """

    folder: Path
    kind: str
    version: int
    fingerprint: str
    newest: int | None = None
    own_names: bool = False
    inside: Mapping[str, str] = field(default_factory=dict)
    _open: dict[int, Path] = field(default_factory=dict, init=False, repr=False, compare=False)
    _joined: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def exists(self, *, replace: bool, fix: str) -> bool:
        """Returns whether a run with the same fingerprint has already completed the folder; see `ShardedFolder`."""
        try:
            found = self._fingerprint()
        except FolderError:
            if replace:
                return False
            raise
        if found is not None and found != self.fingerprint and not replace:
            raise FolderError(f"{named(self.folder)} was made from other photos or options: {fix}")
        if found == self.fingerprint and self._begun():
            self._clean()  # a run that was killed at its end
        return found == self.fingerprint

    def begun(self) -> bool:
        """Returns whether a run with the same fingerprint has completed the folder or was interrupted."""
        try:
            found = self._fingerprint()
        except FolderError:
            return False
        return found == self.fingerprint if found is not None else self._begun()

    def check_free(self, *, replace: bool) -> None:
        """Checks that the folder can be written without overwriting files of another kind; see `durable.check_free`.

        Raises:
            FolderError: a file that is not of a folder of this kind is at the address; or a folder of this kind, and
                `replace` is False.
        """
        found = self._remote.files(required=False)
        sealed = self._sealed(found)
        if sealed is not None and not replace:
            raise FolderError(f"{named(self.folder)} exists already: name another folder, or give replace=True")
        if foreign := self._foreign(found):
            raise FolderError(
                f"{named(self.folder)} is not a folder of {self.kind} and will not be replaced (it contains "
                f"{min(foreign)}): name another folder"
            )

    def start(
        self, make_plan: Callable[[], Any] = lambda: None, parse: Callable[[Any], Plan] = lambda plan: plan
    ) -> Plan:
        """Continues an interrupted run with the same fingerprint, or starts a new run; see `ShardedFolder`."""
        try:
            plan = stored_plan(self._work.read(PLAN), self.fingerprint, parse)
            self._work.write(RUN, self.fingerprint.encode())
            return plan
        except MissingFileError:
            pass
        except PlanError as error:
            log.warning(f"{named(self.folder)}/{WORK}/{self.fingerprint} {error}: starting over")
        if self.own_names and (sealed := self._sealed(self._remote.files(required=False))) is not None:
            self._intend("replaced", sealed)
            self._remote.remove([MANIFEST])
        if self._clean():
            log.warning(f"{named(self.folder)}/{WORK} was left by a run with other photos or options: starting over")
        self._work.write(RUN, self.fingerprint.encode())  # an address that cannot be written to fails before the work
        plan = make_plan()
        self._work.write(PLAN, plan_text(plan, self.fingerprint).encode())
        return parse(plan)

    def unfinished(self, shards: Sequence[Shard]) -> dict[int, Shard]:
        """Returns the shards that are not finished; see `ShardedFolder`."""
        self._joined["shards"] = len(shards)
        return without_finished(shards, self._finished().__contains__)

    def keep(
        self,
        number: int,
        rows: np.ndarray,
        names: Sequence[str],
        left_out: Mapping[str, str],
        boxes: np.ndarray | None = None,
    ) -> None:
        """Stores rows of a shard that is not finished; see `ShardedFolder`."""
        self._parts(number).write(f"{self._next_part(number)}.npz", packed(rows, names, left_out, boxes))

    def kept(self, number: int) -> list[Part]:
        """The rows, names, reasons and boxes that `keep` stored of a shard; see `ShardedFolder`."""
        folder = self._parts(number)
        contents = ((f"{named(Path(folder.address))}/{name}", folder.read(name)) for name in self._part_names(number))
        return distinct_parts(unpacked(*content) for content in contents)

    @contextmanager
    def commit(self, number: int) -> Iterator[Path | None]:
        """Context manager in which the files of a shard are written and `finish` is called; see `ShardedFolder`.

        Yields:
            A temporary folder of this machine, in which the files are to be written; None if another process has
            finished the shard.

        Raises:
            FolderError: another run has ended or started over.
            RemoteError: the storage does not answer, or refuses.
        """
        self._require_begun()
        if self._work.has(_note(number)):
            yield None
            return
        with nullcontext(self._open[number]) if number in self._open else self.draft(number) as folder:
            yield folder

    @contextmanager
    def draft(self, number: int) -> Iterator[Path]:
        """Context manager that yields a temporary folder of this machine for a shard's files; see `ShardedFolder`."""
        with tempfile.TemporaryDirectory(prefix="keras-retrieval-") as folder:
            self._open[number] = Path(folder)
            try:
                yield Path(folder)
            except DiskSpaceError as error:
                raise DiskSpaceError(
                    f"{error}; files of {named(self.folder)} are made there: TMPDIR names another folder for them"
                ) from error
            finally:
                del self._open[number]

    def finish(self, number: int, names: Sequence[str], left_out: Mapping[str, str], **facts: Any) -> None:
        """Uploads the files of a shard and marks it as finished, within `commit`; see `ShardedFolder`."""
        folder, token = self._open[number], secrets.token_hex(6)
        paths = {
            path.relative_to(folder).as_posix() if self.own_names else f"{path.stem}-{token}{path.suffix}": path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        if self.own_names:
            self._intend(f"{number:05}-{token}", paths)

        def put(key: str) -> list[Any]:
            state = [paths[key].stat().st_size, sha256_of(paths[key])]
            self._remote.put(key, paths[key], self._require_begun)
            return state

        with ThreadPoolExecutor(READERS) as pool:
            files = dict(zip(paths, pool.map(put, paths), strict=True))
        note = {"names": names, "left_out": left_out, "files": files, **facts}
        self._work.write(_note(number), json.dumps(note).encode())
        self._parts(number).remove(self._part_names(number))

    def notes(self) -> list[dict[str, Any]]:
        """Reads the notes of the finished shards, in order; see `finish`.

        Raises:
            FolderError: another run of the same command has ended; or notes are damaged, which are removed, so that
                another run finishes their shards again.
        """
        numbers = sorted(self._finished())
        if len(numbers) != self._joined.get("shards", len(numbers)):
            raise self._gone()
        try:
            with ThreadPoolExecutor(READERS) as pool:
                notes = list(pool.map(lambda number: parsed_note(self._work.read(_note(number))), numbers))
        except MissingFileError as error:
            raise self._gone() from error
        names = [_note(number) for number, note in zip(numbers, notes, strict=True) if "files" not in (note or {})]
        if names:
            self._work.remove(names)
            raise damaged_notes(f"{shown(self._work.address)}/{name}" for name in names)
        return [note for note in notes if note is not None]

    def join(self, *left_out: Mapping[str, str]) -> tuple[list[str], dict[str, str], list[dict[str, Any]]]:
        """Makes names.txt and left_out.json, which `seal` writes, from the notes of all shards; see `ShardedFolder`."""
        notes = self.notes()
        names, reasons = joined_notes(notes, left_out)
        self._joined["texts"] = {NAMES: names_text(names).encode(), LEFT_OUT: left_out_text(reasons).encode()}
        self._joined["files"] = {
            key: (number, *state) for number, note in enumerate(notes) for key, state in note["files"].items()
        }
        return names, reasons, notes

    def untouched(self) -> bool:
        """Whether no row of a shard has been stored since `start`."""
        return not any(name.startswith(("shard-", "parts-")) for name in self._work.files(required=False))

    def discard(self) -> None:
        """Deletes the unfinished folder with all its shards."""
        self._clean()

    def seal(self, *, replace: bool, **facts: Any) -> Path:
        """Writes names.txt, left_out.json and the manifest, and removes what an earlier folder or run left.

        An earlier folder stays until all shards are finished; its manifest is removed before the new one is written.

        Raises:
            FolderError: the folder exists and may not be replaced; or a file of a shard has been removed.
            RemoteError: the storage does not answer, or refuses.
        """
        found = self._remote.files()
        sealed = self._sealed(found)
        if sealed is not None and self._fingerprint() == self.fingerprint and not replace:
            return self.folder  # another process, which ran the same command, was first
        self.check_free(replace=replace)
        files: dict[str, tuple[int, int, str]] = self._joined["files"]
        for number in self._lost(files, found):
            self._work.remove([_note(number)])
        if self._lost(files, found):
            raise FolderError(
                f"files of {named(self.folder)} were removed while it was written: run the command again, which "
                "describes them again"
            )
        sums = {key: checksum for key, (_, _, checksum) in files.items()}
        texts: dict[str, bytes] = self._joined["texts"]
        if sealed is not None:
            self._remote.remove([MANIFEST])
        for name in self.inside:
            self._inner(name)._empty()
        for name, content in texts.items():
            self._remote.write(name, content)
            sums[name] = sha256(content).hexdigest()
        facts |= {"fingerprint": self.fingerprint}
        manifest = manifest_text(dict(sorted(sums.items())), kind=self.kind, version=self.version, **facts)
        self._remote.write(MANIFEST, manifest.encode())
        self._clean()
        return self.folder

    def manifest(self) -> dict[str, Any]:
        """Returns the content of the manifest of the completed folder; see `ShardedFolder`."""
        return read_manifest(self.folder, kind=self.kind, version=self.newest or self.version)

    @property
    def _remote(self) -> RemoteFolder:
        remote = remote_folder(self.folder)
        assert remote is not None
        return remote

    @property
    def _work(self) -> RemoteFolder:
        return RemoteFolder(f"{self._remote.address}/{WORK}/{self.fingerprint}")

    def _parts(self, number: int) -> RemoteFolder:
        return RemoteFolder(f"{self._work.address}/parts-{number:05}")

    def _part_names(self, number: int) -> list[str]:
        return sorted(self._parts(number).files(required=False))

    def _next_part(self, number: int) -> str:
        return f"{len(self._part_names(number)):05}-{secrets.token_hex(6)}"

    def _finished(self) -> set[int]:
        found = self._work.files(required=False)
        return {int(name[len("shard-") : -len(".json")]) for name in found if re.fullmatch(r"shard-\d+\.json", name)}

    def _begun(self) -> bool:
        return self._work.has(RUN)

    def _require_begun(self) -> None:
        """Raises FolderError if another run has ended or started over, whose files are not to be overwritten."""
        if not self._begun():
            raise self._gone()

    def _fingerprint(self) -> str | None:
        """The fingerprint of the completed folder; None if there is none.

        Raises:
            FolderError: its manifest is damaged, or is of another kind.
        """
        if not self._remote.has(MANIFEST):
            return None
        return str(self.manifest().get("fingerprint"))

    def _inner(self, name: str) -> "ShardedAddress":
        """The folder of this name inside this one."""
        return ShardedAddress(self.folder / name, self.inside[name], 0, "")

    def _empty(self) -> None:
        """Removes all files of the folder, and first its manifest, so that nobody reads it meanwhile."""
        found = self._remote.files(required=False)
        mine = (self._sealed(found) or {}).keys() | {name for name in found if self._own(name)}
        self._remote.remove([MANIFEST] if MANIFEST in found else [])
        self._remote.remove(sorted(mine))

    def _foreign(self, found: Mapping[str, FileState]) -> list[str]:
        """The files that are not of a folder of this kind, nor of the folders inside it.

        Args:
            found: the files at the address.
        """
        sealed = self._sealed(found)
        ours = {NAMES, LEFT_OUT} | ({MANIFEST, *sealed} if sealed is not None else set()) | self._intended(found)
        inner = {name: dict[str, FileState]() for name in self.inside}
        foreign = []
        for name, state in found.items():
            above, _, below = name.partition("/")
            if below and above in inner:
                inner[above][below] = state
            elif name not in ours and not self._own(name):
                foreign.append(name)
        return foreign + [f"{name}/{one}" for name, files in inner.items() for one in self._inner(name)._foreign(files)]

    def _intend(self, token: str, keys: Iterable[str]) -> None:
        """Stores the names of files that are about to be written or removed, by which a later run knows them."""
        self._work.write(f"keys-{token}.json", json.dumps(sorted(keys)).encode())

    def _intended(self, found: Mapping[str, FileState]) -> set[str]:
        """The names that `_intend` stored, of all runs; a file of them that is damaged was not followed by any."""
        if not self.own_names:
            return set()

        def names(stored: str) -> list[str]:
            try:
                return [str(name) for name in json.loads(self._remote.read(stored))]
            except (MissingFileError, ValueError, TypeError):
                return []

        with ThreadPoolExecutor(READERS) as pool:
            return {name for some in pool.map(names, filter(_KEYS.fullmatch, found)) for name in some}

    def _sealed(self, found: Mapping[str, FileState]) -> dict[str, str] | None:
        """The files that the manifest of a completed folder of this kind lists; None if there is no such manifest."""
        if MANIFEST not in found:
            return None
        try:
            manifest = json.loads(self._remote.read(MANIFEST))
            return dict(manifest.get("sha256", {})) if manifest["kind"] == self.kind else None
        except (MissingFileError, ValueError, TypeError, KeyError, AttributeError):
            return None

    @staticmethod
    def _lost(files: Mapping[str, Sequence[Any]], found: Mapping[str, FileState]) -> list[int]:
        """The numbers of the shards of which a file is not there, or has another size than when it was written."""
        lost = (key not in found or found[key][0] not in (None, size) for key, (_, size, _) in files.items())
        return sorted({number for gone, (number, _, _) in zip(lost, files.values(), strict=True) if gone})

    @staticmethod
    def _own(name: str) -> bool:
        return name.startswith(f"{WORK}/") or bool(_OF_A_SHARD.fullmatch(name))

    def _clean(self) -> list[str]:
        """Removes the files of unfinished runs, and of an earlier folder; returns the names of those of runs.

        The file `run` of each goes last, so that another process takes the run for ended only when it is; and before it
        the names of files that may have been written.
        """
        found = self._remote.files(required=False)
        kept, intended = self._sealed(found) or {}, self._intended(found)
        names = [name for name in found if (self._own(name) or name in intended) and name not in kept]
        keys = {name for name in names if _KEYS.fullmatch(name)}
        ended = {name for name in names if PurePosixPath(name).name == RUN and name.startswith(f"{WORK}/")}
        for some in (set(names) - keys - ended, keys, ended):
            self._remote.remove(sorted(some))
        return [name for name in names if name.startswith(f"{WORK}/")]

    def _gone(self) -> FolderError:
        return FolderError(
            f"{named(self.folder)}/{WORK}/{self.fingerprint} is gone: another run of the same command has finished "
            "the folder, or one with other photos or options has started over. Run the command again to see which"
        )


def _note(number: int) -> str:
    return f"shard-{number:05}.json"


Sharded = ShardedFolder | ShardedAddress
"""What writes a folder shard by shard, on a disk or at an address."""


@contextmanager
def leaving_nothing(sharded: Sharded) -> Iterator[None]:
    """Context manager after `start` that discards a folder in which nothing was stored, if the work is refused.

    Where files cannot be read or written, which may be otherwise the next time, its plan is kept.
    """
    try:
        yield
    except RetrievalError as error:
        if not isinstance(error, OSError | FolderError | RemoteError) and sharded.untouched():
            sharded.discard()
        raise
