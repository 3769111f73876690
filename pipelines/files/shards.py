"""Writes a folder shard by shard, so that a killed run can be continued.

A shard is a file with the rows (descriptors or pixels) of some of the photos. The shards of a folder NAME are written
to `NAME.partial`, where the file `.plan.json` contains the fingerprint of the run. The file `.shard-00003.json`, called
the note of shard 3, lists the names of the shard's rows. The note is written after the shard's data, so that a shard
without a note is unfinished. The rows of a shard that takes long are stored every minute, in `.part-00003-00000.npz`
and so on, until the shard is finished. Several processes, on several machines, may write shards at the same time, even
the same shard: the file `.lock-00003` lets one of them commit it, and the others find the note. When all shards are
finished, names.txt and left_out.json are made from the notes, and the folder gets its manifest and its final name.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from keras_retrieval.errors import RetrievalError

from .durable import (
    FolderError,
    check_free,
    partial_of,
    read_json,
    read_manifest,
    seal,
    write_file,
    write_names,
)
from .locks import lock

log = logging.getLogger("keras_retrieval")

Shard = TypeVar("Shard")
Plan = TypeVar("Plan")

PLAN = ".plan.json"
RUN = ".run"  # the fingerprint alone, for processes that need no plan
NAMES, LEFT_OUT = "names.txt", "left_out.json"

Part = tuple[np.ndarray, list[str], dict[str, str], np.ndarray | None]
"""Rows of an unfinished shard, their names, the reasons of names without a row, and the boxes of the rows."""


@dataclass(frozen=True)
class ShardedFolder:
    """Writes a folder shard by shard; a run that was killed continues with the shards that are not finished.

    Call the methods in this order: `start`, `unfinished`, `commit` with `finish` for each unfinished shard, `join`,
    `seal`. `keep`, `commit` and `finish` may be called in other processes.

    Attributes:
        folder: the final path of the folder.
        kind: the kind of folder for its manifest, such as "descriptors".
        version: the version of the file layout of this kind of folder.
        fingerprint: the hash of everything that determines the content, see `durable.fingerprint`. Only a run with the
            same fingerprint is continued.
        newest: the newest version of the layout that an existing folder may have; None for `version`.
    """

    folder: Path
    kind: str
    version: int
    fingerprint: str
    newest: int | None = None

    @property
    def partial(self) -> Path:
        """The path `NAME.partial` of the folder in which the shards are written."""
        return partial_of(self.folder)

    def exists(self, *, replace: bool, fix: str) -> bool:
        """Returns whether a run with the same fingerprint has already completed the folder.

        Args:
            replace: whether the caller will replace a folder with another fingerprint. If so, the result for such a
                folder is False; otherwise an error is raised.
            fix: the advice for the user in the error message about a folder with another fingerprint.

        Raises:
            FolderError: `replace` is False, and the folder has another fingerprint, is damaged, or is not of this kind.
        """
        if not self.folder.exists():
            return False
        try:
            found = self.manifest().get("fingerprint")
        except FolderError:
            if replace:
                return False
            raise
        if found != self.fingerprint and not replace:
            raise FolderError(f"{self.folder} was made from other photos or options: {fix}")
        return found == self.fingerprint

    def begun(self) -> bool:
        """Returns whether a run with the same fingerprint has completed the folder or was interrupted."""
        plan = self.partial / PLAN
        try:
            if self.folder.exists():
                return bool(self.manifest()["fingerprint"] == self.fingerprint)
            return plan.exists() and (self.partial / RUN).read_text(encoding="utf-8") == self.fingerprint
        except (FolderError, LookupError, OSError, UnicodeDecodeError):
            return False

    def start(
        self, make_plan: Callable[[], Any] = lambda: None, parse: Callable[[Any], Plan] = lambda plan: plan
    ) -> Plan:
        """Continues an interrupted run with the same fingerprint, or starts a new run.

        The finished shards of a continued run are kept. Those of a run with another fingerprint are deleted.

        Args:
            make_plan: computes the plan of a new run, which is any value, serialisable as JSON, that a continued run
                needs again, such as the contents of the shards. A continued run reads the stored plan instead.
            parse: makes what is returned from a plan, in which JSON has made tuples to lists; it raises FolderError,
                TypeError, ValueError or LookupError for a plan of another form, with which the run starts over.

        Returns:
            What `parse` made of the plan.

        Raises:
            FolderError: the folder `partial` is not empty and was not written by this class.
        """
        path = self.partial / PLAN
        if path.exists():
            try:
                plan = stored_plan(path.read_bytes(), self.fingerprint, parse)
                write_file(self.partial / RUN, self.fingerprint)
                return plan
            except PlanError as error:
                log.warning(f"{self.partial} {error}: starting over")
            shutil.rmtree(self.partial)
        elif self.partial.exists() and any(self.partial.iterdir()):
            raise FolderError(f"{self.partial} exists and is not unfinished work of this kind: rename or remove it")
        plan = make_plan()
        self.partial.mkdir(parents=True, exist_ok=True)
        write_file(self.partial / RUN, self.fingerprint)
        write_file(path, plan_text(plan, self.fingerprint))
        return parse(plan)

    def unfinished(self, shards: Sequence[Shard]) -> dict[int, Shard]:
        """Returns the shards that are not finished.

        Args:
            shards: the content of every shard, such as the list of its photos; only its position is used.

        Returns:
            A dict that maps the number of each unfinished shard (its index in `shards`) to its content.
        """
        return without_finished(shards, lambda number: self._note(number).exists())

    def keep(
        self,
        number: int,
        rows: np.ndarray,
        names: Sequence[str],
        left_out: Mapping[str, str],
        boxes: np.ndarray | None = None,
    ) -> None:
        """Stores rows of a shard that is not finished, so that a killed run does not compute them again.

        Args:
            number: the number of the shard.
            rows: the rows, (n, D) float32.
            names: their n names.
            left_out: maps the names without a row to the reasons.
            boxes: the box of each row in its photo, (n, 4) float32; None for rows of whole photos.
        """
        count = len(list(self.partial.glob(f".part-{number:05}-*.npz")))
        write_file(self.partial / f".part-{number:05}-{count:05}.npz", packed(rows, names, left_out, boxes))

    def kept(self, number: int) -> list[Part]:
        """The rows, names, reasons and boxes that `keep` stored of a shard, in the order in which they were stored.

        Of two processes that stored rows of the same shard at the same time, those of one are returned. A file that is
        damaged is passed over with a warning.
        """
        paths = sorted(self.partial.glob(f".part-{number:05}-*.npz"))
        return distinct_parts(unpacked(str(path), path.read_bytes()) for path in paths)

    def check_free(self, *, replace: bool) -> None:
        """Checks that the folder can be written without overwriting files of another kind; see `durable.check_free`.

        Raises:
            FolderError: a file or folder that may not be replaced exists at the path.
        """
        check_free(self.folder, kind=self.kind, replace=replace)

    @contextmanager
    def commit(self, number: int) -> Iterator[Path | None]:
        """Context manager in which the data of a shard is written and `finish` called, by one process at a time.

        Args:
            number: the number of the shard.

        Yields:
            The folder in which the shard's files are to be written; None if another process has finished the shard.

        Raises:
            FolderError: the folder `partial` belongs to a run with other photos or options by now, or is gone, because
                another run has ended.
            OSError: a file cannot be read or written.
        """
        path = self.partial / f".lock-{number:05}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError as error:
            raise self._gone() from error
        try:
            lock(descriptor, wait=True)
            try:
                run = (self.partial / RUN).read_text(encoding="utf-8")
            except FileNotFoundError as error:
                raise self._gone() from error
            if run != self.fingerprint:
                raise FolderError(f"{self.partial} was begun anew with other photos or options")
            yield None if self._note(number).exists() else self.partial
        finally:
            # Whoever locks the file after it is removed finds the note.
            if self._note(number).exists():
                path.unlink(missing_ok=True)
            os.close(descriptor)

    @contextmanager
    def draft(self, number: int) -> Iterator[Path]:
        """Context manager around `commit` that yields a folder in which files of a shard may be written before it.

        On a disk it is the folder in which they stay, so that a run that is continued finds those of a killed one. At
        an address it is a temporary folder.
        """
        yield self.partial

    def _gone(self) -> FolderError:
        return FolderError(
            f"{self.partial} is gone: another run of the same command has finished {self.folder}, or the folder was "
            "removed. Run the command again to see which"
        )

    def finish(self, number: int, names: Sequence[str], left_out: Mapping[str, str], **facts: Any) -> None:
        """Marks a shard as finished, within `commit`. The file with the data of the shard must already be written.

        The names of the shard's rows are written to a JSON file called the note of the shard, see the module.
        `unfinished` no longer returns a shard that has a note.

        Args:
            number: the number of the shard.
            names: the names of the shard's rows, in the order of the rows.
            left_out: dict from each name that was planned for the shard but has no row to the reason.
            **facts: further entries of the note, serialisable as JSON. `join` returns the notes of all shards.
        """
        write_file(self._note(number), json.dumps({"names": names, "left_out": left_out, **facts}))
        for path in self.partial.glob(f".part-{number:05}-*.npz"):
            path.unlink()

    def notes(self) -> list[dict[str, Any]]:
        """Reads the notes of the finished shards, in order; see `finish`.

        Raises:
            FolderError: notes are damaged; they are removed, so that another run finishes their shards again.
        """
        paths = sorted(self.partial.glob(".shard-*.json"))
        notes = [parsed_note(path.read_bytes()) for path in paths]
        if damaged := [path for path, note in zip(paths, notes, strict=True) if note is None]:
            for path in damaged:
                path.unlink(missing_ok=True)
            raise damaged_notes(map(str, damaged))
        return [note for note in notes if note is not None]

    def join(self, *left_out: Mapping[str, str]) -> tuple[list[str], dict[str, str], list[dict[str, Any]]]:
        """Writes names.txt and left_out.json from the notes of all shards.

        Args:
            *left_out: dicts that map names that were left out before the names were divided into shards to the
                reasons.

        Returns:
            The names of all rows in order; a dict that maps every name that was left out, sorted, to the reason; and
            the notes of the shards in order, each a dict with the entries "names", "left_out" and the `facts` that were
            passed to `finish`.
        """
        notes = self.notes()
        names, reasons = joined_notes(notes, left_out)
        write_names(self.partial / NAMES, names)
        write_left_out(self.partial / LEFT_OUT, reasons)
        return names, reasons, notes

    def untouched(self) -> bool:
        """Whether no row of a shard has been stored since `start`."""
        return not any(any(self.partial.glob(pattern)) for pattern in (".shard-*", ".part-*"))

    def discard(self) -> None:
        """Deletes the unfinished folder with all its shards."""
        shutil.rmtree(self.partial)

    def seal(self, *, replace: bool, **facts: Any) -> Path:
        """Writes the manifest of the folder and renames the folder to its final name.

        Args:
            replace: whether an existing folder of the same kind is replaced.
            **facts: further entries of the manifest, serialisable as JSON.

        Returns:
            The final path of the folder.

        Raises:
            FolderError: the folder exists and may not be replaced, see `durable.check_free`.
        """
        facts |= {"fingerprint": self.fingerprint}
        return seal(self.partial, self.folder, kind=self.kind, version=self.version, replace=replace, **facts)

    def manifest(self) -> dict[str, Any]:
        """Returns the content of the manifest of the completed folder.

        Raises:
            FolderError: the folder does not exist, is damaged, or is not of this kind.
        """
        return read_manifest(self.folder, kind=self.kind, version=self.newest or self.version)

    def _note(self, number: int) -> Path:
        return self.partial / f".shard-{number:05}.json"


class PlanError(RetrievalError, ValueError):
    """A stored plan is of another run, or damaged; the message says which, without the name of the file."""


def plan_text(plan: Any, fingerprint: str) -> str:
    """A plan and the fingerprint of its run as JSON."""
    return json.dumps({"fingerprint": fingerprint, "plan": plan})


def stored_plan(content: bytes, fingerprint: str, parse: Callable[[Any], Plan]) -> Plan:
    """Returns what `parse` makes of the plan in the text of `plan_text`.

    Raises:
        PlanError: the plan is of a run with another fingerprint, is not JSON, or not of the form that `parse` reads.
    """
    try:
        stored = json.loads(content)
        if stored["fingerprint"] == fingerprint:
            return parse(stored["plan"])
    except (FolderError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise PlanError("has a damaged plan") from error
    raise PlanError("was left by a run with other photos or options")


def parsed_note(content: bytes) -> dict[str, Any] | None:
    """Parses the note of a shard; returns None if it is damaged."""
    try:
        note = json.loads(content)
        sound = isinstance(note["names"], list) and isinstance(note["left_out"], dict)
        return note if sound and isinstance(note.get("files", {}), dict) else None
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def without_finished(shards: Sequence[Shard], finished: Callable[[int], bool]) -> dict[int, Shard]:
    """Returns the shards that are not finished, by number, and logs how many are; see `ShardedFolder.unfinished`."""
    todo = {number: shard for number, shard in enumerate(shards) if not finished(number)}
    if len(todo) < len(shards):
        log.info(f"{len(shards) - len(todo)} of {len(shards)} shards are already complete")
    return todo


def damaged_notes(places: Iterable[str]) -> FolderError:
    """The error for notes that are damaged and were removed."""
    first, *others = places
    more = f" and {len(others):,} more" if others else ""
    return FolderError(f"{first}{more} was damaged: run the command again, which does this part of the work again")


def joined_notes(
    notes: Iterable[Mapping[str, Any]], left_out: Iterable[Mapping[str, str]]
) -> tuple[list[str], dict[str, str]]:
    """The names of all rows, and the reasons of all names that were left out, sorted; see `ShardedFolder.join`."""
    names, reasons = [], dict[str, str]()
    for before in left_out:
        reasons |= before
    for note in notes:
        names += note["names"]
        reasons |= note["left_out"]
    return names, dict(sorted(reasons.items()))


def packed(rows: np.ndarray, names: Sequence[str], left_out: Mapping[str, str], boxes: np.ndarray | None) -> bytes:
    """Packs rows of an unfinished shard into the content of a .npz file."""
    note = json.dumps({"names": names, "left_out": left_out}).encode()
    file, boxed = BytesIO(), {} if boxes is None else {"boxes": boxes}
    np.savez(file, allow_pickle=False, rows=rows, note=np.frombuffer(note, np.uint8), **boxed)
    return file.getvalue()


def unpacked(place: str, content: bytes) -> Part | None:
    """Unpacks what `packed` packed; None with a warning that names `place` if it is damaged."""
    try:
        with np.load(BytesIO(content), allow_pickle=False) as stored:
            rows, note = stored["rows"], json.loads(stored["note"].tobytes())
            boxes = stored["boxes"] if "boxes" in stored.files else None
    except (BadZipFile, ValueError, LookupError, EOFError) as error:
        log.warning(f"{place} is damaged ({error}): its rows are computed again")
        return None
    return rows, note["names"], note["left_out"], boxes


def distinct_parts(parts: Iterable[Part | None]) -> list[Part]:
    """Those parts of a shard of which no name was in an earlier part."""
    found: list[Part] = []
    seen: set[str] = set()
    for part in parts:
        if part is not None and not seen & (names := {*part[1], *part[2]}):
            seen |= names
            found.append(part)
    return found


def left_out_text(reasons: Mapping[str, str]) -> str:
    """A dict from the name of each file that was left out or ignored to the reason, as JSON."""
    return json.dumps(dict(sorted(reasons.items())), indent=1, ensure_ascii=False) + "\n"


def write_left_out(path: Path, reasons: Mapping[str, str]) -> None:
    """Writes a dict from the name of each file that was left out or ignored to the reason, as JSON."""
    write_file(path, left_out_text(reasons))


def read_left_out(folder: Path) -> dict[str, str]:
    """Reads which photos were left out of a folder that was written in shards.

    Returns:
        A dict that maps the name of each photo without a row in the folder to the reason.

    Raises:
        FolderError: the folder's left_out.json is damaged.
        OSError: left_out.json cannot be read.
    """
    return read_json(folder / LEFT_OUT)
