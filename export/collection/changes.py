"""Compares the photos of a folder with those of an index: which are new, changed, renamed or gone."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from keras_retrieval.pipelines.photos.intake import Intake

State = tuple[int, int]
"""The size of a file in bytes and its modification time in ns; a file that has changed has another state."""

_SECOND = 1_000_000_000
_BROKEN = "a link to a file that does not exist"


@dataclass(frozen=True)
class Changes:
    """The differences between a folder and an index.

    Attributes:
        fresh: names of the photos to describe, which are new or have changed, in the order of the intake.
        renamed: maps the new name of each renamed photo to its old name in the index, whose descriptor can be used.
        gone: names of photos of the index whose files are gone, with those of renamed photos.
        unreachable: the number of photos of the index that are kept although their files were not found, because the
            folder that contains them cannot be read, or a drive is not mounted.
    """

    fresh: list[str]
    renamed: dict[str, str]
    gone: list[str]
    unreachable: int


def photo_states(intake: Intake) -> dict[str, State]:
    """Returns the state of each photo of an intake; a photo that is gone meanwhile is not in it."""
    folder, states = os.fspath(intake.folder), {}
    for name in intake.photos:
        with contextlib.suppress(OSError):
            status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - of 100,000 photos, Path takes longer than the system
            states[name] = status.st_size, status.st_mtime_ns
    return states


def compare(
    known: Mapping[str, State],
    left_out: Mapping[str, State],
    intake: Intake,
    states: Mapping[str, State],
    mounts: Collection[str],
) -> Changes:
    """Compares a folder with an index.

    Args:
        known: the state that each photo of the index had when it was described.
        left_out: the state that each photo had for which there was no descriptor.
        intake: the account of the folder.
        states: the present state of each photo of `intake`.
        mounts: names of sub-folders on which drives were mounted earlier.
    """
    fresh = [name for name, state in states.items() if known.get(name) != state and left_out.get(name) != state]
    absent = [name for name in known if name not in states]
    hidden = _unreachable_folders(intake, mounts)
    gone = [name for name in absent if not _below(name, hidden)]
    renamed = _renamed(known, states, [name for name in fresh if name not in known], gone)
    return Changes([name for name in fresh if name not in renamed], renamed, gone, len(absent) - len(gone))


def mount_points(folder: Path, names: Iterable[str]) -> list[str]:
    """Lists the sub-folders with photos on which a drive is mounted.

    Args:
        folder: the photo folder.
        names: names of the photos.

    Returns:
        Sorted names of folders relative to `folder`.
    """
    folders = {name.rpartition("/")[0] for name in names}
    folders |= {str(parent) for name in folders for parent in PurePosixPath(name).parents}
    folders -= {"", "."}
    return sorted(name for name in folders if os.path.ismount(folder / name))


def _unreachable_folders(intake: Intake, mounts: Collection[str]) -> set[str]:
    """The folders whose photos were not found because they cannot be listed, or their drive is not mounted."""
    unlisted = {name.rstrip("/") for name in intake.left_out if name.endswith("/")}
    broken = {name for name, reason in intake.left_out.items() if reason == _BROKEN}
    folders = [name for name in mounts if (intake.folder / name).is_dir()]
    unmounted = {name for name in folders if not os.path.ismount(intake.folder / name)}
    return unlisted | broken | unmounted


def _below(name: str, folders: Collection[str]) -> bool:
    return bool(folders) and any(str(parent) in folders for parent in PurePosixPath(name).parents)


def _renamed(
    known: Mapping[str, State], states: Mapping[str, State], new: list[str], gone: list[str]
) -> dict[str, str]:
    """Finds new photos that are gone ones under another name: of the same size and time, and the only ones of them.

    Times in whole seconds are those of archives and old file systems, in which many files have the same; there the file
    must have kept its own name and only its folder may differ.
    """
    by_state: dict[State, list[str]] = defaultdict(list)
    for name in gone:
        by_state[known[name]].append(name)
    takers: dict[State, list[str]] = defaultdict(list)
    for name in new:
        takers[states[name]].append(name)
    found = {}
    for state, names in takers.items():
        old = by_state.get(state, [])
        same_name = len(names) == len(old) == 1 and PurePosixPath(names[0]).name == PurePosixPath(old[0]).name
        if len(names) == len(old) == 1 and (state[1] % _SECOND or same_name):
            found[names[0]] = old[0]
    return found
