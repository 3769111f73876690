"""Keras callbacks for training with `fit`: metrics, validation, scores, checkpoints, TensorBoard.

A callback adds its metrics to the logs of the epoch, where the callbacks after it in the list can read them::

    model.fit(stream.dataset(), callbacks=[
        mining_callback(stream.draw, describe), figures(model), validation(model, held_out, describe),
        tensorboard(folder),
    ])
"""

import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from ..descriptors.describer import DescribeFn, NoDescriptorsError
from ..files.durable import write_file
from ..files.progress import note_progress
from .checkpoint import Checkpoint, write_checkpoint
from .epoch_draw import EpochDraw
from .errors import TrainingError
from .evaluation import CollectionScorer, headline
from .stream import TupleStream
from .workers import Workers

Logs = dict[str, Any]
SCORE = "score: "
"""Prefix of the names of metrics on a collection in the logs of an epoch."""


class StepSource(Protocol):
    """The interface of a source of training batches: of `EpochDraw`, `ClassDraw`, `LandmarkBatches`."""

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""

    def state(self) -> dict[str, np.ndarray]:
        """Returns the arrays that a checkpoint must contain, so that a resumed run can continue within an epoch."""


def figures(model: Any) -> Any:
    """Returns a callback that adds "p", "learning_rate" and "seconds" to the logs of each epoch.

    "p" is the exponent of GeM pooling, averaged over channels and layers; networks without GeM do not have it.
    "learning_rate" is the rate at the beginning of the epoch, and "seconds" the duration of the epoch.

    Args:
        model: a compiled TupleModel or any other compiled keras.Model.
    """
    import keras

    from keras_retrieval.layers.gem import gem_layers

    at_beginning: Logs = {}

    def begin(epoch: int, logs: Logs | None = None) -> None:
        rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        at_beginning.update(learning_rate=rate, seconds=time.monotonic())

    def end(epoch: int, logs: Logs) -> None:
        exponents = [float(keras.ops.convert_to_numpy(layer.p).mean()) for layer in gem_layers(_network(model))]
        if exponents:
            logs["p"] = float(np.mean(exponents))
        logs |= {**at_beginning, "seconds": round(time.monotonic() - at_beginning["seconds"], 1)}

    return keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)


def step_progress(steps: int, epochs: int, start: int = 0) -> Any:
    """Returns a callback that notes the number of finished steps of all epochs for a process that watches this one.

    Args:
        steps: number of steps in an epoch.
        epochs: number of epochs.
        start: number of steps of the first epoch that were finished before, in a resumed run.
    """
    import keras

    before = {"steps": start}

    def begin(epoch: int, logs: Logs | None = None) -> None:
        before["epoch"] = epoch

    def step_end(batch: int, logs: Logs | None = None) -> None:
        done = before["epoch"] * steps + before["steps"] + batch + 1
        note_progress("training", done, epochs * steps, "steps")

    def end(epoch: int, logs: Logs | None = None) -> None:
        before["steps"] = 0

    return keras.callbacks.LambdaCallback(begin, end, on_train_batch_end=step_end)


def validation(model: Any, stream: TupleStream, describe: DescribeFn) -> Any:
    """Returns a callback that adds "val_loss" and "val_negative_distance" to the logs of each epoch.

    The negatives of the validation tuples are mined again after each epoch. "val_negative_distance" is the mean
    Euclidean distance between the descriptors of the queries and of these negatives.

    Args:
        model: the model that is trained.
        stream: the stream of validation tuples.
        describe: function from photos to descriptors, which `describer` makes from the network in training.
    """
    import keras

    def end(epoch: int, logs: Logs) -> None:
        mined = cast(EpochDraw, stream.draw).mine(describe, epoch)
        found = model.evaluate(stream.dataset(), verbose=0, return_dict=True)
        logs |= {f"val_{name}": float(value) for name, value in found.items()}
        logs["val_negative_distance"] = mined.distance

    return keras.callbacks.LambdaCallback(on_epoch_end=end)


def evaluation(network: Any, scorer: CollectionScorer, every: int = 1) -> Any:
    """Returns a callback that scores the network on a collection and adds "score: NAME" to the logs of an epoch.

    NAME is the metric that `evaluation.headline` selects, such as "mAP medium".

    Args:
        network: the network in training, from `keras_retrieval.build`.
        scorer: the scorer of the collection.
        every: the network is scored after every `every` epochs.

    Raises:
        TrainingError: raised during `fit` if the network no longer yields usable descriptors.
    """
    import keras

    def end(epoch: int, logs: Logs) -> None:
        if (epoch + 1) % every == 0:
            try:
                collection = scorer.describe_now(network, "epoch")
            except NoDescriptorsError as error:
                raise TrainingError(f"epoch {epoch + 1} cannot be scored: {error}") from error
            name, value = headline(scorer.score(collection))
            scorer.remove_descriptors("epoch")
            logs[SCORE + name] = value

    return keras.callbacks.LambdaCallback(on_epoch_end=end)


def agreement(workers: Workers) -> Any:
    """Returns a callback that gives all processes that train together the logs of the chief at the end of an epoch."""
    import keras

    def end(epoch: int, logs: Logs) -> None:
        logs |= workers.agree({name: value if isinstance(value, int) else float(value) for name, value in logs.items()})

    return keras.callbacks.LambdaCallback(on_epoch_end=end)


def checkpointing(
    run: Path,
    checkpoint: Checkpoint,
    model: Any,
    source: StepSource,
    best: str = "val_loss",
    steps: int = 0,
    *,
    writes: bool = True,
) -> Any:
    """Returns a callback that writes checkpoint.npz and history.csv to the folder of a run.

    The callback must be placed after all callbacks that add metrics to the logs. `open_run` and `restore` resume a run
    from checkpoint.npz; within an epoch, `fit` must then get `stream.dataset(checkpoint.step)`.

    Args:
        run: folder of the run.
        checkpoint: the state of the run, which the callback updates in place.
        model: a compiled TupleModel or any other compiled keras.Model.
        source: the source of the training steps, whose state is saved.
        best: criterion for the best epoch: "val_loss" (the lowest), "score" (the highest) or "last". The weights of the
            best epoch are stored, too.
        steps: number of steps between two checkpoints within an epoch; 0 writes a checkpoint only after each epoch.
        writes: whether this process writes files; of several that train together only one does.

    Raises:
        TrainingError: raised during `fit` if the loss or a weight is not finite at the end of an epoch;
            checkpoint.npz is not written then.
    """
    import keras

    start = checkpoint.step

    def begin(epoch: int, logs: Logs | None = None) -> None:
        if checkpoint.step:
            for variable, value in zip(model.metrics_variables, checkpoint.metrics, strict=True):
                variable.assign(value)

    def step_end(batch: int, logs: Logs | None = None) -> None:
        done = start + batch + 1
        if done % steps == 0 and done < source.steps:
            _update(checkpoint, model, source, done)
            if writes:
                write_checkpoint(run, checkpoint)

    def end(epoch: int, logs: Logs) -> None:
        nonlocal start
        start = 0
        _update(checkpoint, model, source, 0)
        _require_finite(epoch, logs, checkpoint.weights)
        checkpoint.history.append({"epoch": epoch + 1} | {name: _number(value) for name, value in logs.items()})
        if best_epoch(checkpoint.history, best) == epoch + 1:
            checkpoint.best, checkpoint.best_epoch = checkpoint.weights, epoch + 1
        if writes:
            write_checkpoint(run, checkpoint)
            write_history(run, checkpoint)

    return keras.callbacks.LambdaCallback(begin, end, on_train_batch_end=step_end if steps else None)


def best_epoch(history: Sequence[Logs], best: str) -> int:
    """Returns the number of the best epoch, from 1.

    If several epochs are equally good, the first of them is returned. If no epoch has the metric, the number of the
    last epoch is returned.

    Args:
        history: for each epoch a dict from metric to value.
        best: criterion for the best epoch: "val_loss" (the lowest), "score" (the highest) or "last".
    """
    ranks = [_rank(epoch, best) for epoch in history]
    known = [row for row, rank in enumerate(ranks) if rank > -math.inf]
    return max(known, key=lambda row: ranks[row]) + 1 if known else len(history)


def tensorboard(folder: Path, pictures: Callable[[], Sequence[np.ndarray]] | None = None) -> Any:
    """Returns a callback that writes all metrics of each epoch, and images of tuples, for TensorBoard.

    Args:
        folder: the folder for the event files; a resumed run adds event files.
        pictures: function that returns images of tuples, each (h, w, 3) uint8, after each epoch; None for no images.
    """
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")  # otherwise TensorFlow, which only writes, takes the GPU's memory
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
    """Writes history.csv, with one row per epoch and one column per metric, to the folder of a run.

    Returns:
        The path of the file.

    Raises:
        OSError: the file cannot be written.
    """
    columns = list(dict.fromkeys(name for row in checkpoint.history for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(checkpoint.history)
    write_file(run / "history.csv", file.getvalue())
    return run / "history.csv"


def _update(checkpoint: Checkpoint, model: Any, source: StepSource, step: int) -> None:
    """Copies the state of a run into its checkpoint."""
    checkpoint.step, checkpoint.stream = step, source.state()
    checkpoint.weights = _values(_network(model).weights)
    checkpoint.optimizer = _values(model.optimizer.variables)
    checkpoint.extra = _values(getattr(model, "extra_weights", ()))
    checkpoint.metrics = _values(model.metrics_variables)


def _network(model: Any) -> Any:
    """Returns the network within a TupleModel, or the model itself if it is not a TupleModel."""
    return getattr(model, "network", model)


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    import keras

    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _rank(epoch: Logs, best: str) -> float:
    if best == "last":
        return float(epoch["epoch"])
    if best == "val_loss":
        loss = epoch.get("val_loss")
        return -math.inf if loss is None else -loss
    return next((value for name, value in epoch.items() if name.startswith(SCORE) and value is not None), -math.inf)


def _number(value: Any) -> float | int | None:
    """Converts a metric to a number that JSON supports, or to None if it is not finite."""
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None


def _require_finite(epoch: int, logs: Logs, weights: Sequence[np.ndarray]) -> None:
    losses = {name: logs[name] for name in ("loss", "val_loss") if name in logs}
    if not np.isfinite(list(losses.values())).all() or not all(np.isfinite(array).all() for array in weights):
        values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise TrainingError(f"epoch {epoch + 1} ends with {values} and weights, not all of them finite: lower --lr")
