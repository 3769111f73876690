"""Which files belong to a folder that a step made, so that no other step's output takes their place.

Folders with a manifest list their files. The others, to which a step adds in later runs, are recognised by the files
that the step leaves in them, and their files are listed here.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .durable import MANIFEST
from .shards import LEFT_OUT

_DEPTH = 4  # folders above a file that are looked at


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder without a manifest that lists all its files.

    Attributes:
        contents: the contents, for messages.
        marks: files by which such a folder is recognised, all of which it has.
        files: names of the files directly in the folder that another step must not replace, with * for any text.
        folders: names of sub-folders all of whose files belong to the folder.
        lacks: a file which such a folder does not have, "" for none.
    """

    contents: str
    marks: tuple[str, ...]
    files: frozenset[str]
    folders: frozenset[str] = frozenset()
    lacks: str = ""


_RESULTS, _PAGE = "results.json", "page.html"
_RUN = {
    "model.keras", "classifier.keras", "trained.keras", "initial.keras", "landmarks.txt", "history.csv",
    "checkpoint.npz", "pretrained.json", "validation.json", _RESULTS, _PAGE,
}  # fmt: skip
_RECONSTRUCTED = {
    "options.json", "database.db", "photos.json", "pairs.json", "report.json", "index.html", "landmark.json", LEFT_OUT,
}  # fmt: skip

RECONSTRUCTION = FolderKind(
    "a reconstruction",
    ("database.db",),
    frozenset(_RECONSTRUCTED),
    frozenset(["images", "models"]),
)
CLEANED = FolderKind(
    "cleaned landmarks",
    ("cleaning.json", "kept.txt"),
    frozenset(["options.json", "cleaning.json", "kept.txt", "boxes.json", "index.html", LEFT_OUT]),
)
TRAINED, TRAINING = (
    FolderKind("a training run", marks, frozenset(_RUN)) for marks in ((_RESULTS, "model.keras"), ("checkpoint.npz",))
)
EVALUATION = FolderKind("an evaluation", (_RESULTS, _PAGE), frozenset([_RESULTS, _PAGE]), lacks="model.keras")
COPIES = FolderKind(
    "groups of copies", ("duplicates.json", LEFT_OUT), frozenset(["duplicates.json", "index.html", LEFT_OUT])
)
GROUPS = FolderKind("groups", ("groups.json", "groups.csv"), frozenset(["groups.json", "groups.csv", "groups.html"]))
CALIBRATIONS = FolderKind(
    "calibrations of an index", (MANIFEST,), frozenset(["calibration.json", "calibration-*.json"])
)
COLLECTION = FolderKind(
    "the state of a collection",
    ("collection.json",),
    frozenset(["collection.json", "collection-copy.json", "running.json", "precision.json", LEFT_OUT]),
)
DEMO = FolderKind("a demo", ("demo.json",), frozenset(["demo.json", "timings.json"]))

KINDS = (
    RECONSTRUCTION, CLEANED, TRAINED, TRAINING, EVALUATION, COPIES, GROUPS, CALIBRATIONS, COLLECTION, DEMO
)  # fmt: skip
"""All kinds of folders without a manifest that lists all their files."""


def owner_of(file: Path, but: Collection[FolderKind] = ()) -> tuple[Path, str] | None:
    """Returns the folder that a step made of which a file is part, and the contents of the folder; None for others.

    Files of a user beside those of the step, such as pages, are no part of it.

    Args:
        file: path of the file.
        but: kinds of folders whose files do not count, because the step that asks makes them.
    """
    file = file.resolve()
    for folder in list(file.parents)[:_DEPTH]:
        name = file.relative_to(folder).as_posix()
        if contents := _listed(folder, name) or _known(folder, name, but):
            return folder, contents
    return None


def other_contents(folder: Path, made: Collection[FolderKind]) -> str | None:
    """Returns the contents of a folder of which a step that makes folders of other kinds would replace a file.

    Args:
        folder: the folder to which the step writes.
        made: the kinds of folders that the step makes.
    """
    names = frozenset().union(*(kind.files for kind in made))
    found = (owner_of(folder / name, made) for name in sorted(names) if (folder / name).exists())
    return next((owner[1] for owner in found if owner), None)


def _listed(folder: Path, name: str) -> str | None:
    """The kind of a folder with a manifest that lists a file, or another file of the same sub-folder."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        kind, listed, _ = str(manifest["kind"]), dict(manifest["sha256"]), manifest["checksum"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    inner = {one.partition("/")[0] for one in listed if "/" in one}
    return kind if name == MANIFEST or name in listed or name.partition("/")[0] in inner else None


def _known(folder: Path, name: str, but: Collection[FolderKind]) -> str | None:
    """The contents of a folder of one of `KINDS` that a file belongs to."""
    for kind in KINDS:
        listed = any(fnmatchcase(name, one) for one in kind.files) or name.partition("/")[0] in kind.folders
        if kind in but or not listed:
            continue
        if all((folder / mark).is_file() for mark in kind.marks) and not (
            kind.lacks and (folder / kind.lacks).exists()
        ):
            return kind.contents
    return None
