"""Requests that arrive together run together: dynamic batching with the parameters of TensorFlow Serving.

A request joins an open batch of its signature whose tensors have its shapes; a batch runs when it is full or its
first request has waited long enough. Queues are bounded: a full one answers UNAVAILABLE at once.
"""

import collections
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

import numpy as np

from .errors import Code, ServingError, invalid
from .limits import Deadline, expired
from .servable import Servable

QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full"


@dataclass(frozen=True)
class BatchingParameters:
    """What TensorFlow Serving's batching parameters file holds, with its defaults.

    Args:
        max_batch_size: rows of a batch, at most.
        batch_timeout_micros: microseconds that the first request of a batch waits for others.
        max_enqueued_batches: batches of one signature that wait, at most.
        num_batch_threads: batches that run at once.
        allowed_batch_sizes: sizes that a batch is padded to, ascending, the last one max_batch_size; () for any.
        pad_variable_length_inputs: whether tensors of one rank but other sizes are padded and merged.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise ValueError(f"batch_timeout_micros is at least 0, not {self.batch_timeout_micros}")
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != self.max_batch_size):
            raise ValueError(f"allowed_batch_sizes ascend to max_batch_size, {self.max_batch_size}; got {list(sizes)}")

    def padded(self, rows: int) -> int:
        """The size that a batch of so many rows is run at."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


@dataclass
class _Task:
    feeds: Mapping[str, np.ndarray]
    rows: int
    deadline: Deadline
    done: "Future[list[np.ndarray]]" = field(default_factory=Future)


@dataclass
class _Batch:
    servable: Servable
    fetches: tuple[str, ...]
    shapes: tuple
    due: float
    tasks: list[_Task] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(task.rows for task in self.tasks)


class Batcher:
    """Merges the requests of a server into batches, and runs these on threads of its own. It is a Run.

    Args:
        parameters: sizes, waiting time and bounds.
    """

    def __init__(self, parameters: BatchingParameters) -> None:
        self.parameters = parameters
        self._waiting: collections.deque[_Batch] = collections.deque()
        self._changed = threading.Condition()
        self._stopped = False
        threads = range(parameters.num_batch_threads)
        self._threads = [threading.Thread(target=self._work, name=f"batch-{n}", daemon=True) for n in threads]
        for thread in self._threads:
            thread.start()

    def __call__(
        self, servable: Servable, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: Deadline
    ) -> list[np.ndarray]:
        """Runs a request within a batch; waits no longer than its deadline, after which it is not computed."""
        task = _Task(feeds, _rows(feeds), deadline)
        if task.rows > self.parameters.max_batch_size:
            limit = self.parameters.max_batch_size
            raise invalid(f"Task size {task.rows} is larger than maximum input batch size {limit}")
        with self._changed:
            self._place(task, servable, tuple(fetches))
            self._changed.notify()
        try:
            return task.done.result(deadline.remaining())
        except (TimeoutError, CancelledError):
            task.done.cancel()
            raise expired() from None

    def stop(self) -> None:
        """Runs what waits and ends the threads."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _place(self, task: _Task, servable: Servable, fetches: tuple[str, ...]) -> None:
        shapes = self._mergeable(task.feeds)
        same_queue = [b for b in self._waiting if b.servable is servable and b.fetches == fetches]
        for batch in same_queue:
            if batch.shapes == shapes and batch.rows + task.rows <= self.parameters.max_batch_size:
                batch.tasks.append(task)
                return
        if len(same_queue) >= self.parameters.max_enqueued_batches:
            raise ServingError(Code.UNAVAILABLE, QUEUE_FULL)
        servable.acquire()  # a client may leave before its batch has run
        due = time.monotonic() + self.parameters.batch_timeout_micros / 1e6
        self._waiting.append(_Batch(servable, fetches, shapes, due, [task]))

    def _mergeable(self, feeds: Mapping[str, np.ndarray]) -> tuple:
        if self.parameters.pad_variable_length_inputs:
            return tuple((name, feeds[name].dtype, feeds[name].ndim) for name in sorted(feeds))
        return tuple((name, feeds[name].dtype, feeds[name].shape[1:]) for name in sorted(feeds))

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            with batch.servable.held():
                tasks = [task for task in batch.tasks if _still_wanted(task)]
                if tasks:
                    _run(batch, tasks, self.parameters)
            del batch, tasks  # an idle thread keeps no version in memory

    def _next(self) -> _Batch | None:
        with self._changed:
            while True:
                ready = next((batch for batch in self._waiting if self._ready(batch)), None)
                if ready is not None:
                    self._waiting.remove(ready)
                    return ready
                if self._stopped:
                    return None
                first = min((batch.due for batch in self._waiting), default=None)
                self._changed.wait(None if first is None else max(first - time.monotonic(), 0.0))

    def _ready(self, batch: _Batch) -> bool:
        return self._stopped or batch.rows >= self.parameters.max_batch_size or batch.due <= time.monotonic()


def _rows(feeds: Mapping[str, np.ndarray]) -> int:
    if not feeds:
        raise invalid("Batching session Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in feeds.values()):
        raise invalid("Batching session Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1:
        raise invalid("Batching session Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _still_wanted(task: _Task) -> bool:
    try:
        task.deadline.check()
    except ServingError as error:
        task.done.set_exception(error) if task.done.set_running_or_notify_cancel() else None
        return False
    return task.done.set_running_or_notify_cancel()


def _run(batch: _Batch, tasks: list[_Task], parameters: BatchingParameters) -> None:
    """Runs tasks as one. If that fails they are run one by one: what is wrong with one is not the others' fault."""
    try:
        outputs = _run_merged(batch, tasks, parameters)
    except Exception as error:
        if len(tasks) == 1:
            tasks[0].done.set_exception(error)
        else:
            for task in tasks:
                _run(batch, [task], parameters)
        return
    ends = np.cumsum([task.rows for task in tasks])
    for task, end in zip(tasks, ends, strict=True):
        task.done.set_result([output[end - task.rows : end] for output in outputs])


def _run_merged(batch: _Batch, tasks: list[_Task], parameters: BatchingParameters) -> list[np.ndarray]:
    rows = sum(task.rows for task in tasks)
    padding = parameters.padded(rows) - rows if rows else 0
    feeds = {name: _merge([task.feeds[name] for task in tasks], padding) for name in tasks[0].feeds}
    outputs = batch.servable.run(feeds, batch.fetches, _latest(tasks))
    for output in outputs:
        if output.ndim == 0:
            raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(output) != rows + padding:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input"
                " tensors",
            )
    return outputs


def _merge(arrays: list[np.ndarray], padding: int) -> np.ndarray:
    """Arrays below each other, each filled up to the largest with its first value, and `padding` rows like the last."""
    largest = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
    same = [_fill_up(array, largest) for array in arrays]
    merged = same[0] if len(same) == 1 else np.concatenate(same)
    return np.concatenate([merged, np.repeat(merged[-1:], padding, 0)]) if padding else merged


def _fill_up(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.shape[1:] == shape:
        return array
    if not array.size:
        raise invalid("Tensors without values cannot be padded")
    filled = np.full((len(array), *shape), array.flat[0], array.dtype)
    filled[tuple(slice(size) for size in array.shape)] = array
    return filled


def _latest(tasks: list[_Task]) -> Deadline:
    """The wait of the most patient client: a batch is not ended before it."""
    waits = [task.deadline.remaining() for task in tasks]
    return Deadline(None if None in waits else max(wait for wait in waits if wait is not None))
