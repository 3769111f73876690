"""What happens after each epoch of `model.fit`, each a Keras callback of its own, for `train` or anybody's training.

A callback adds its figures to the epoch's, so that those behind it in the list see them:

    model.fit(stream.dataset(), callbacks=[
        stream.callback(describe), figures(model), validation(model, held_out, describe), tensorboard(folder),
    ])
"""

import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..descriptors.describer import DescribeFn, NoDescriptorsError
from ..files.durable import write_file
from .checkpoint import Checkpoint, write_checkpoint
from .errors import TrainingError
from .evaluation import Examination, headline
from .stream import TupleStream

Logs = dict[str, Any]
SCORE = "score: "
"""Before the name of the figure on a collection, among an epoch's figures."""


class Steps(Protocol):
    """What a network learns from, step by step: a `TupleStream`, or `classification.LandmarkBatches`."""

    @property
    def steps(self) -> int:
        """Steps in an epoch."""

    def state(self) -> dict[str, np.ndarray]:
        """What it needs to go on within an epoch."""


def figures(model: Any) -> Any:
    """Adds "p" (GeM's exponent, the mean over channels and layers), "learning_rate" and the epoch's "seconds".

    Args:
        model: a TupleModel, or any keras.Model, that is compiled.
    """
    import keras

    from keras_retrieval.layers.gem import gem_layers

    begun: Logs = {}

    def begin(epoch: int, logs: Logs | None = None) -> None:
        rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        begun.update(learning_rate=rate, seconds=time.monotonic())

    def end(epoch: int, logs: Logs) -> None:
        exponents = [float(keras.ops.convert_to_numpy(layer.p).mean()) for layer in gem_layers(_network(model))]
        if exponents:
            logs["p"] = float(np.mean(exponents))
        logs |= {**begun, "seconds": round(time.monotonic() - begun["seconds"], 1)}

    return keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)


def validation(model: Any, stream: TupleStream, describe: DescribeFn) -> Any:
    """Adds "val_loss" and "val_negative_distance" of tuples set aside, whose negatives the network itself finds hard.

    Args:
        model: that is trained.
        stream: of validation tuples.
        describe: from `describer` of the network.
    """
    import keras

    def end(epoch: int, logs: Logs) -> None:
        mined = stream.mine(describe, epoch)
        found = model.evaluate(stream.dataset(), verbose=0, return_dict=True)
        logs |= {f"val_{name}": float(value) for name, value in found.items()}
        logs["val_negative_distance"] = mined.distance

    return keras.callbacks.LambdaCallback(on_epoch_end=end)


def evaluation(network: Any, examination: Examination, every: int = 1) -> Any:
    """Adds "score: NAME", the first figure of a collection's medium or only setting, each `every` epochs.

    Args:
        network: from `keras_retrieval.build`.
        examination: on what it is scored.
        every: epochs.

    Raises:
        TrainingError: from `fit`, when the network describes no photo any more.
    """
    import keras

    def end(epoch: int, logs: Logs) -> None:
        if (epoch + 1) % every == 0:
            try:
                collection = examination.describe_now(network, "epoch")
            except NoDescriptorsError as error:
                raise TrainingError(f"epoch {epoch + 1} cannot be scored: {error}") from error
            name, value = headline(examination.score(collection))
            examination.forget("epoch")
            logs[SCORE + name] = value

    return keras.callbacks.LambdaCallback(on_epoch_end=end)


def checkpointing(
    run: Path, checkpoint: Checkpoint, model: Any, stream: Steps, best: str = "val_loss", steps: int = 0
) -> Any:
    """Writes RUN/checkpoint.npz and RUN/history.csv; `open_run` and `restore` go on from there.

    It stands behind all callbacks that add figures. A run that goes on within an epoch is given
    `stream.dataset(checkpoint.step)` for the rest of it.

    Args:
        run: the folder of the run.
        checkpoint: of what is trained already; it is brought up to date.
        model: a TupleModel, or any keras.Model, that is compiled.
        stream: of what it learns from.
        best: which epoch's weights are kept as the best: "val_loss" (least), "score" (greatest) or "last".
        steps: write also after so many steps of an epoch; 0 for after each epoch only.

    Raises:
        TrainingError: from `fit`, when the loss or a weight is no longer finite; the checkpoint stays as it is.
    """
    import keras

    start = checkpoint.step

    def begin(epoch: int, logs: Logs | None = None) -> None:
        if checkpoint.step:
            for variable, value in zip(model.metrics_variables, checkpoint.metrics, strict=True):
                variable.assign(value)

    def step_end(batch: int, logs: Logs | None = None) -> None:
        done = start + batch + 1
        if done % steps == 0 and done < stream.steps:
            _keep(checkpoint, model, stream, done)
            write_checkpoint(run, checkpoint)

    def end(epoch: int, logs: Logs) -> None:
        nonlocal start
        start = 0
        _keep(checkpoint, model, stream, 0)
        _require_finite(epoch, logs, checkpoint.weights)
        checkpoint.history.append({"epoch": epoch + 1} | {name: _number(value) for name, value in logs.items()})
        if best_epoch(checkpoint.history, best) == epoch + 1:
            checkpoint.best, checkpoint.best_epoch = checkpoint.weights, epoch + 1
        write_checkpoint(run, checkpoint)
        write_history(run, checkpoint)

    return keras.callbacks.LambdaCallback(begin, end, on_train_batch_end=step_end if steps else None)


def best_epoch(history: Sequence[Logs], best: str) -> int:
    """The number of the best epoch, from 1: of those that have the figure, the first of equals; else the last.

    Args:
        history: the figures of each epoch.
        best: as of `checkpointing`.
    """
    merits = [_merit(epoch, best) for epoch in history]
    known = [row for row, merit in enumerate(merits) if merit > -math.inf]
    return max(known, key=lambda row: merits[row]) + 1 if known else len(history)


def tensorboard(folder: Path, pictures: Callable[[], Sequence[np.ndarray]] | None = None) -> Any:
    """Writes all figures of each epoch for TensorBoard, and tuples as pictures.

    Args:
        folder: for the event files; a run that goes on writes beside those that are there.
        pictures: gives the tuples to show, each (h, w, 3) uint8; None for none.
    """
    import keras
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(folder))

    def end(epoch: int, logs: Logs) -> None:
        with writer.as_default(step=epoch + 1):
            for name, value in logs.items():
                tf.summary.scalar(name, float(value))
            for number, picture in enumerate(pictures() if pictures else ()):
                tf.summary.image(f"tuple {number + 1}", picture[None])
        writer.flush()

    return keras.callbacks.LambdaCallback(on_epoch_end=end)


def write_history(run: Path, checkpoint: Checkpoint) -> Path:
    """Writes RUN/history.csv: one row per epoch, a column for every figure that an epoch has."""
    columns = list(dict.fromkeys(name for row in checkpoint.history for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(checkpoint.history)
    write_file(run / "history.csv", file.getvalue())
    return run / "history.csv"


def _keep(checkpoint: Checkpoint, model: Any, stream: Steps, step: int) -> None:
    """Takes over where a run is."""
    checkpoint.step, checkpoint.stream = step, stream.state()
    checkpoint.weights = _values(_network(model).weights)
    checkpoint.optimizer = _values(model.optimizer.variables)
    checkpoint.metrics = _values(model.metrics_variables)


def _network(model: Any) -> Any:
    """What learns: the network within a TupleModel, or the model itself."""
    return getattr(model, "network", model)


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    import keras

    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _merit(epoch: Logs, best: str) -> float:
    if best == "last":
        return float(epoch["epoch"])
    if best == "val_loss":
        loss = epoch.get("val_loss")
        return -math.inf if loss is None else -loss
    return next((value for name, value in epoch.items() if name.startswith(SCORE) and value is not None), -math.inf)


def _number(value: Any) -> float | int | None:
    """What JSON holds; a figure that is not defined is None."""
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None


def _require_finite(epoch: int, logs: Logs, weights: Sequence[np.ndarray]) -> None:
    losses = {name: logs[name] for name in ("loss", "val_loss") if name in logs}
    if not np.isfinite(list(losses.values())).all() or not all(np.isfinite(array).all() for array in weights):
        said = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise TrainingError(f"epoch {epoch + 1} ends with {said}, or weights, that are no finite numbers: lower --lr")
