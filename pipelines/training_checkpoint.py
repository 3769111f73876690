"""What a training run goes on from after a kill: checkpoint.npz, whole at any moment and never a pickle."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .folders import write_file

NAME = "checkpoint.npz"
VERSION = 1
_ARRAYS = ("weights", "optimizer", "best")


class CheckpointError(ValueError):
    """A run cannot go on from its checkpoint; the message says why and what to do."""


@dataclass
class Checkpoint:
    """A run after its last finished epoch.

    Attributes:
        options: those that decide what is learned, JSON-able.
        history: per finished epoch its figures.
        samples: "first" and "last" -> the sample tuples of that epoch.
        best_epoch: the number of the best epoch, from 1; 0 before the first.
        weights: of the network, in its own order.
        optimizer: the optimizer's variables.
        best: the weights of the best epoch.
    """

    options: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)
    best_epoch: int = 0
    weights: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """How many epochs are finished."""
        return len(self.history)


def write_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Writes RUN/checkpoint.npz in place of the one before, which stands until the new one is whole."""
    about = {key: value for key, value in asdict(checkpoint).items() if key not in _ARRAYS}
    arrays = {f"{key}/{row}": array for key in _ARRAYS for row, array in enumerate(getattr(checkpoint, key))}
    file = BytesIO()
    np.savez(file, allow_pickle=False, about=np.array(json.dumps(about | {"version": VERSION})), **arrays)
    write_file(run / NAME, file.getvalue())
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
            lists: dict[str, Any] = {key: _list(file, key) for key in _ARRAYS} if version <= VERSION else {}
    except Exception as error:
        # A broken zip file has a dozen ways to fail, and none names the file.
        raise CheckpointError(f"{path} is damaged ({error}): remove {run} and train anew") from error
    if version > VERSION:
        raise CheckpointError(f"{path} has layout {version}, and this version reads {VERSION}: update keras-retrieval")
    return Checkpoint(**about, **lists)


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
    for torn in run.glob(f".{NAME}.*.writing"):
        torn.unlink(missing_ok=True)
    found = read_checkpoint(run)
    if found is None:
        # The folder may hold a cache and a first evaluation: a run that was killed in its first epoch begins again.
        return Checkpoint(options)
    if not resume:
        raise CheckpointError(
            f"{run} holds a run with {found.epochs} epochs: --resume goes on with it, or name another --output"
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


def _list(file: Any, key: str) -> list[np.ndarray]:
    count = sum(name.startswith(f"{key}/") for name in file.files)
    return [file[f"{key}/{row}"] for row in range(count)]


def _require_same(then: dict[str, Any], now: dict[str, Any], run: Path) -> None:
    for name in [*now, *(name for name in then if name not in now)]:
        if then.get(name) != now.get(name):
            option = name.replace("_", "-")
            raise CheckpointError(
                f"{run} was begun with --{option} {then.get(name)}, not {now.get(name)}: "
                "--resume takes the same, or name another --output"
            )
