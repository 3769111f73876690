"""Reads and writes checkpoint.npz, the file from which a training run is resumed.

The file is replaced atomically and contains no pickles.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import RetrievalError

from ..files.durable import atomic_path

NAME = "checkpoint.npz"
VERSION = 1
_LISTS = ("weights", "optimizer", "extra", "metrics", "best")


class CheckpointError(RetrievalError, ValueError):
    """A run cannot be resumed from its checkpoint; the message states the reason and the remedy."""


@dataclass
class Checkpoint:
    """The state of a run after its last finished epoch, or between two steps of the next epoch.

    Attributes:
        options: dict of the options and files on which the weights depend, serialisable as JSON, from a method such as
            `TrainOptions.fingerprint`.
        history: for each finished epoch a dict from metric to value.
        step: number of finished training steps (batches) of the epoch that follows the finished epochs.
        samples: the sample tuples that were mined before the first epoch, each a list of the fields of
            `samples.Sample`, serialisable as JSON. The page of the run shows them.
        best_epoch: the number of the best epoch, from 1; 0 before the first epoch is finished.
        weights: the weights of the network, in the order of `network.weights`.
        optimizer: the values of the optimizer's variables.
        extra: the values of the weights of the loss, such as class centres, which are not part of the network.
        metrics: the values of the variables of the model's metrics, which are means over the finished steps.
        best: the weights of the network after the best epoch.
        stream: the arrays that the method `state` of the source of training batches returned, such as
            `EpochDraw.state`.
    """

    options: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    samples: list[Any] = field(default_factory=list)
    best_epoch: int = 0
    weights: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    extra: list[np.ndarray] = field(default_factory=list)
    metrics: list[np.ndarray] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)
    stream: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def started(self) -> bool:
        """Whether at least one training step (one update of the weights by a batch) has been finished.

        Only then does the checkpoint contain weights from which a run can be resumed.
        """
        return bool(self.history or self.step)


def write_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Writes checkpoint.npz to the folder of a run; the previous file is replaced when the new one is complete.

    Returns:
        The path of the file.

    Raises:
        DiskSpaceError: the disk is full; the previous file is unchanged.
        OSError: the file cannot be written.
    """
    about = {
        one.name: getattr(checkpoint, one.name) for one in fields(checkpoint) if one.name not in (*_LISTS, "stream")
    }
    arrays = {f"{key}/{row}": array for key in _LISTS for row, array in enumerate(getattr(checkpoint, key))}
    arrays |= {f"stream/{name}": array for name, array in checkpoint.stream.items()}
    size = sum(array.nbytes for array in arrays.values())
    with atomic_path(run / NAME, size=size) as file:
        np.savez(file, allow_pickle=False, about=np.array(json.dumps(about | {"version": VERSION})), **arrays)
    return run / NAME


def read_checkpoint(run: Path) -> Checkpoint | None:
    """Reads checkpoint.npz in the folder of a run; returns None if the file does not exist.

    Raises:
        CheckpointError: the file is damaged, or was written by a newer version.
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
        # A damaged zip file raises one of a dozen errors, none of which names the file.
        raise CheckpointError(f"{path} is damaged ({error}): remove {run} and train again") from error
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


def precision_of_run(run: Path, resume: bool) -> str | None:
    """Returns the value of --precision with which the run in a folder was begun, without reading its weights.

    Args:
        run: folder of the run.
        resume: whether a run whose checkpoint is in the folder may be resumed.

    Returns:
        The precision; None if the folder has no checkpoint that can be read.

    Raises:
        CheckpointError: the folder contains a checkpoint, and `resume` is False.
    """
    try:
        with np.load(run / NAME, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            begun, epochs = about["options"].get("precision"), len(about["history"])
    except Exception:  # there is none, or `read_checkpoint` says what is wrong with it
        return None
    if not resume:
        raise _not_to_resume(run, epochs)
    return begun


def open_run(run: Path, options: dict[str, Any], resume: bool) -> Checkpoint:
    """Reads the checkpoint that a run is resumed from, or creates the folder and an empty checkpoint for a new run.

    Args:
        run: folder of the run.
        options: dict of the options and files on which the weights depend, serialisable as JSON. In a resumed run it
            must equal the dict in the checkpoint.
        resume: whether a run whose checkpoint is in the folder may be resumed. A new run is started in either case if
            the folder contains no checkpoint.

    Returns:
        The checkpoint; its attribute `started` is False in a new run.

    Raises:
        CheckpointError: the folder contains a checkpoint that cannot be resumed: `resume` is False, the checkpoint is
            of a run with other options, it is damaged, or it was written by a newer version.
        OSError: the folder cannot be written to.
    """
    run.mkdir(parents=True, exist_ok=True)
    for torn in run.glob(f".{Path(NAME).stem}.*.writing{Path(NAME).suffix}"):
        torn.unlink(missing_ok=True)
    found = read_checkpoint(run)
    if found is None:
        # The folder may contain a cache and scores: a run killed before its first checkpoint starts again.
        return Checkpoint(options)
    if not resume:
        raise _not_to_resume(run, found.epochs)
    _require_same(found.options, options, run)
    return found


def _not_to_resume(run: Path, epochs: int) -> CheckpointError:
    return CheckpointError(
        f"{run} contains a run with {epochs} finished epochs: give --resume to continue it, or another --output"
    )


def restore(
    checkpoint: Checkpoint, variables: Sequence[Any], optimizer: Sequence[Any], extra: Sequence[Any] = ()
) -> None:
    """Assigns the weights and optimizer variables in a checkpoint to a network, its optimizer and its loss.

    Args:
        checkpoint: the checkpoint.
        variables: the weights of the network, which are changed in place.
        optimizer: the variables of the optimizer, which are changed in place.
        extra: the weights of the loss, which are changed in place.

    Raises:
        CheckpointError: the number or the shapes of the variables differ from those in the checkpoint.
    """
    parts = {
        "weights": (checkpoint.weights, variables),
        "optimizer variables": (checkpoint.optimizer, optimizer),
        "weights of the loss": (checkpoint.extra, extra),
    }
    for part, (arrays, targets) in parts.items():
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in targets]:
            raise CheckpointError(f"the checkpoint's {part} do not fit this network: train again")
        for array, variable in zip(arrays, targets, strict=True):
            variable.assign(array)


def _require_same(then: dict[str, Any], now: dict[str, Any], run: Path) -> None:
    for name in [*now, *(name for name in then if name not in now)]:
        if then.get(name) != now.get(name):
            option = name.replace("_", "-")
            raise CheckpointError(
                f"{run} was started with --{option} {then.get(name)}, not {now.get(name)}: "
                "give the same to --resume, or another --output"
            )
