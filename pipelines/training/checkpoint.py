"""What a training run goes on from after a kill: checkpoint.npz, whole at any moment and never a pickle."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..files.durable import atomic_path

NAME = "checkpoint.npz"
VERSION = 1
_LISTS = ("weights", "optimizer", "metrics", "best")


class CheckpointError(ValueError):
    """A run cannot go on from its checkpoint; the message says why and what to do."""


@dataclass
class Checkpoint:
    """A run after its last finished epoch, or between two steps of the next.

    Attributes:
        options: those that decide what is learned, JSON-able.
        history: per finished epoch its figures.
        step: how many steps of the next epoch are done.
        samples: tuples to look at, as they were before the first epoch, JSON-able.
        best_epoch: the number of the best epoch, from 1; 0 before the first.
        weights: of the network, in its own order.
        optimizer: the optimizer's variables.
        metrics: the variables of the model's metrics, which sum up the epoch.
        best: the weights of the best epoch.
        stream: the state of the tuples' stream.
    """

    options: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    samples: list[Any] = field(default_factory=list)
    best_epoch: int = 0
    weights: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    metrics: list[np.ndarray] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)
    stream: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """How many epochs are finished."""
        return len(self.history)

    @property
    def begun(self) -> bool:
        """Whether there is anything to go on from."""
        return bool(self.history or self.step)


def write_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Writes RUN/checkpoint.npz in place of the one before, which stands until the new one is whole."""
    about = {
        one.name: getattr(checkpoint, one.name) for one in fields(checkpoint) if one.name not in (*_LISTS, "stream")
    }
    arrays = {f"{key}/{row}": array for key in _LISTS for row, array in enumerate(getattr(checkpoint, key))}
    arrays |= {f"stream/{name}": array for name, array in checkpoint.stream.items()}
    with atomic_path(run / NAME) as file:
        np.savez(file, allow_pickle=False, about=np.array(json.dumps(about | {"version": VERSION})), **arrays)
    return run / NAME


def read_checkpoint(run: Path) -> Checkpoint | None:
    """Reads what `write_checkpoint` wrote; None where there is none.

    Raises:
        CheckpointError: the file is damaged, or of a newer version.
    """
    path = run / NAME
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            version = about.pop("version")
            arrays = {name: file[name] for name in file.files if name != "about"}
    except Exception as error:
        # A broken zip file has a dozen ways to fail, and none names the file.
        raise CheckpointError(f"{path} is damaged ({error}): remove {run} and train anew") from error
    if version > VERSION:
        raise CheckpointError(f"{path} has layout {version}, and this version reads {VERSION}: update keras-retrieval")
    found = Checkpoint(**about)
    for name, array in arrays.items():
        key, _, inner = name.partition("/")
        if key == "stream":
            found.stream[inner] = array
        else:
            getattr(found, key).append(array)
    return found


def open_run(run: Path, options: dict[str, Any], resume: bool) -> Checkpoint:
    """The checkpoint that a run goes on from, or an empty one for a new run, whose folder is made.

    Args:
        run: the folder of the run.
        options: those that decide what is learned; on resuming they must be what they were.
        resume: whether the user asked to go on.

    Raises:
        CheckpointError: there is a run and `resume` does not ask for it, or it was begun with other options.
        OSError: the folder cannot be written.
    """
    run.mkdir(parents=True, exist_ok=True)
    for torn in run.glob(f".{Path(NAME).stem}.*.writing{Path(NAME).suffix}"):
        torn.unlink(missing_ok=True)
    found = read_checkpoint(run)
    if found is None:
        # The folder may hold a cache and a first evaluation: a run that was killed in its first epoch begins again.
        return Checkpoint(options)
    if not resume:
        raise CheckpointError(
            f"{run} holds a run with {found.epochs} finished epochs: --resume goes on with it, or name another --output"
        )
    _require_same(found.options, options, run)
    return found


def restore(checkpoint: Checkpoint, variables: Sequence[Any], optimizer: Sequence[Any]) -> None:
    """Puts a checkpoint's weights and optimizer variables back.

    Raises:
        CheckpointError: their number or shapes differ.
    """
    for what, kept, now in (("weights", checkpoint.weights, variables), ("optimizer", checkpoint.optimizer, optimizer)):
        if [array.shape for array in kept] != [tuple(variable.shape) for variable in now]:
            raise CheckpointError(f"the checkpoint's {what} are not those of this network: train anew")
        for array, variable in zip(kept, now, strict=True):
            variable.assign(array)


def _require_same(then: dict[str, Any], now: dict[str, Any], run: Path) -> None:
    for name in [*now, *(name for name in then if name not in now)]:
        if then.get(name) != now.get(name):
            option = name.replace("_", "-")
            raise CheckpointError(
                f"{run} was begun with --{option} {then.get(name)}, not {now.get(name)}: "
                "--resume takes the same, or name another --output"
            )
