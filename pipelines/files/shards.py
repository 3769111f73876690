"""A folder that is written shard by shard, so that a run that was killed can be continued.

The shards grow in `NAME.partial`. `.plan.json` in it has the fingerprint of the run; `.shard-00003.json` is the note
of shard 3, which lists its rows and is written after its data: a shard without a note is unfinished. The rows of a slow
shard are stored every minute, in `.part-00003-00000.npz` and so on, until the shard is finished. Once all shards
are written, the notes are joined to names.txt and left_out.json, and the folder gets its manifest and its final name.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .durable import FolderError, atomic_path, partial_of, read_json, read_manifest, seal, write_file, write_names

log = logging.getLogger("keras_retrieval")

Shard = TypeVar("Shard")

PLAN = ".plan.json"
LEFT_OUT = "left_out.json"


@dataclass(frozen=True)
class ShardedFolder:
    """A folder that is being written in shards.

    Attributes:
        folder: the final path of the folder.
        kind: the kind of folder, for the manifest.
        version: the version of the layout of that kind.
        fingerprint: the fingerprint of everything that decides the content. Only a run with the same fingerprint is
            continued.
    """

    folder: Path
    kind: str
    version: int
    fingerprint: str

    @property
    def partial(self) -> Path:
        """The folder `NAME.partial`, in which the shards are written."""
        return partial_of(self.folder)

    def exists(self, *, replace: bool, fix: str) -> bool:
        """Whether the folder is complete already, written by a run with the same fingerprint.

        Args:
            replace: whether a folder with another fingerprint is to be replaced.
            fix: the remedy for a folder of another fingerprint, for the message.

        Raises:
            FolderError: the folder has another fingerprint, or is not a folder of this kind, and is not to be replaced.
        """
        if not self.folder.exists():
            return False
        try:
            found = read_manifest(self.folder, kind=self.kind, version=self.version).get("fingerprint")
        except FolderError:
            if replace:
                return False
            raise
        if found != self.fingerprint and not replace:
            raise FolderError(f"{self.folder} was made from other photos or options: {fix}")
        return found == self.fingerprint

    def start(self, make_plan: Callable[[], Any] = lambda: None) -> Any:
        """Continues a killed run with the same fingerprint, whose shards are kept, or starts a new one.

        Args:
            make_plan: computes the plan of a new run, JSON-able; a continued run uses the stored one.

        Returns:
            The plan as read from JSON, where tuples become lists.

        Raises:
            FolderError: the partial folder contains something that no run of this kind wrote.
        """
        path = self.partial / PLAN
        if path.exists():
            content = read_json(path)
            if isinstance(content, dict) and content.get("fingerprint") == self.fingerprint:
                return content["plan"]
            log.warning(f"{self.partial} was left by a run with other photos or options: starting over")
            shutil.rmtree(self.partial)
        elif self.partial.exists() and any(self.partial.iterdir()):
            raise FolderError(f"{self.partial} exists and is not unfinished work of this kind: rename or remove it")
        content = json.dumps({"fingerprint": self.fingerprint, "plan": make_plan()})
        self.partial.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
        return json.loads(content)["plan"]

    def unfinished(self, shards: Sequence[Shard]) -> dict[int, Shard]:
        """Maps the number of each shard that is still to be written to its content."""
        todo = {number: shard for number, shard in enumerate(shards) if not self._note(number).exists()}
        if len(todo) < len(shards):
            log.info(f"{len(shards) - len(todo)} of {len(shards)} shards are already complete")
        return todo

    def keep(self, number: int, rows: np.ndarray, names: Sequence[str], left_out: Mapping[str, str]) -> None:
        """Stores rows of a shard that is not finished, so that a killed run does not compute them again.

        Args:
            number: the number of the shard.
            rows: the rows, (n, D) float32.
            names: their n names.
            left_out: maps the names without a row to the reasons.
        """
        count = len(list(self.partial.glob(f".part-{number:05}-*.npz")))
        note = json.dumps({"names": names, "left_out": left_out}).encode()
        path = self.partial / f".part-{number:05}-{count:05}.npz"
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, rows=rows, note=np.frombuffer(note, np.uint8))

    def kept(self, number: int) -> list[tuple[np.ndarray, list[str], dict[str, str]]]:
        """The rows, names and reasons that `keep` stored of a shard, in the order in which they were stored."""
        parts = []
        for path in sorted(self.partial.glob(f".part-{number:05}-*.npz")):
            with np.load(path, allow_pickle=False) as stored:
                note = json.loads(stored["note"].tobytes())
                parts.append((stored["rows"], note["names"], note["left_out"]))
        return parts

    def finish(self, number: int, names: Sequence[str], left_out: Mapping[str, str], **facts: Any) -> None:
        """Marks a shard as finished; its data must have been written before.

        Args:
            number: the number of the shard.
            names: the names of its rows, in order.
            left_out: maps the names that are not in the shard to the reasons.
            **facts: further entries of the shard's note, which `join` returns; JSON-able.
        """
        write_file(self._note(number), json.dumps({"names": names, "left_out": left_out, **facts}))
        for path in self.partial.glob(f".part-{number:05}-*.npz"):
            path.unlink()

    def join(self, *left_out: Mapping[str, str]) -> tuple[list[str], dict[str, str], list[dict[str, Any]]]:
        """Writes names.txt and left_out.json from the notes of all shards.

        Args:
            *left_out: names that were left out before the shards were cut, with the reasons.

        Returns:
            The names of all rows in order, a dict that maps the names left out to the reasons, and the note of each
            shard.
        """
        notes = [read_json(path) for path in sorted(self.partial.glob(".shard-*.json"))]
        names = [name for note in notes for name in note["names"]]
        reasons: dict[str, str] = {}
        for before in left_out:
            reasons |= before
        for note in notes:
            reasons |= note["left_out"]
        reasons = dict(sorted(reasons.items()))
        write_names(self.partial / "names.txt", names)
        write_left_out(self.partial / LEFT_OUT, reasons)
        return names, reasons, notes

    def discard(self) -> None:
        """Removes the shards."""
        shutil.rmtree(self.partial)

    def seal(self, *, replace: bool, **facts: Any) -> Path:
        """Gives the finished folder its manifest and its final name; see `durable.seal`."""
        facts |= {"fingerprint": self.fingerprint}
        return seal(self.partial, self.folder, kind=self.kind, version=self.version, replace=replace, **facts)

    def _note(self, number: int) -> Path:
        return self.partial / f".shard-{number:05}.json"


def write_left_out(path: Path, reasons: Mapping[str, str]) -> None:
    """Writes a dict from the name of each file that was left out or ignored to the reason, as JSON."""
    text = json.dumps(dict(sorted(reasons.items())), indent=1, ensure_ascii=False) + "\n"
    # Python represents a file name that is not UTF-8 with lone surrogates, which become JSON escapes.
    write_file(path, text.encode(errors="backslashreplace"))


def read_left_out(folder: Path) -> dict[str, str]:
    """Maps each photo without a row in a folder to the reason.

    Raises:
        FolderError: left_out.json is damaged.
    """
    return read_json(folder / LEFT_OUT)
