"""Dynamic batching: merges concurrent requests into one batch, with the parameters of TensorFlow Serving.

A request joins a waiting batch for the same version and the same output tensors if its input tensors have the same
shapes, apart from the number of rows, and the batch does not become too large. A batch is computed when it is full, or
when its first request has waited for `batch_timeout_micros`. The number of waiting batches is limited; when this limit
is reached, further requests fail at once with UNAVAILABLE.
"""

import collections
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

import numpy as np

from keras_retrieval.errors import ArgumentError

from .errors import Code, ServingError, invalid
from .limits import Deadline, expired
from .servable import Servable

QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full"


@dataclass(frozen=True)
class BatchingParameters:
    """TensorFlow Serving's parameters of dynamic batching, with its default values.

    Args:
        max_batch_size: maximum number of rows in a batch.
        batch_timeout_micros: time in microseconds that the first request of a batch waits for further requests.
        max_enqueued_batches: maximum number of waiting batches per version and set of output tensors.
        num_batch_threads: number of batches that are computed concurrently; by default the number of CPU cores.
        allowed_batch_sizes: numbers of rows to which batches are padded, ascending, the last equal to `max_batch_size`;
            () for no padding.
        pad_variable_length_inputs: whether input tensors of the same rank and different sizes are padded to the
            largest, so that their requests can be merged.

    Raises:
        ArgumentError: a parameter is out of range.
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
                raise ArgumentError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise ArgumentError(f"batch_timeout_micros must be at least 0, got {self.batch_timeout_micros}")
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != self.max_batch_size):
            raise ArgumentError(
                f"allowed_batch_sizes must ascend to max_batch_size, {self.max_batch_size}, got {list(sizes)}"
            )

    def padded_size(self, rows: int) -> int:
        """Returns the smallest allowed batch size that is at least `rows`; `rows` itself if all sizes are allowed."""
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
    """Merges concurrent requests into batches, and computes the batches on its own threads.

    A batcher is a function of the type `servable.Run`.

    Args:
        parameters: parameters of dynamic batching.
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
        """Computes a request as part of a batch, and waits for the result.

        Args:
            servable: version that computes the request.
            feeds: array for each input tensor, (rows, ...), by tensor name.
            fetches: names of the tensors to compute.
            deadline: deadline of the request, after which the request is dropped.

        Returns:
            One array per name in `fetches`, with the rows of this request.

        Raises:
            ServingError: INVALID_ARGUMENT if the request has too many rows or its tensors have no common number of
                rows, UNAVAILABLE if too many batches are waiting, DEADLINE_EXCEEDED if the deadline has passed,
                CANCELLED if the client has disconnected.
            tf.errors.OpError: the graph fails on the inputs.
        """
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
        """Computes the waiting batches, and ends the threads."""
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
        servable.acquire()  # released after the batch, which may be computed after its requests have expired
        due = time.monotonic() + self.parameters.batch_timeout_micros / 1e6
        self._waiting.append(_Batch(servable, fetches, shapes, due, [task]))

    def _mergeable(self, feeds: Mapping[str, np.ndarray]) -> tuple:
        if self.parameters.pad_variable_length_inputs:
            return tuple((name, feeds[name].dtype, feeds[name].ndim) for name in sorted(feeds))
        return tuple((name, feeds[name].dtype, feeds[name].shape[1:]) for name in sorted(feeds))

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            with batch.servable.releasing():
                tasks = [task for task in batch.tasks if _is_wanted(task)]
                if tasks:
                    _run(batch, tasks, self.parameters)
            del batch, tasks  # so that an idle thread keeps no version in memory

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


def _is_wanted(task: _Task) -> bool:
    try:
        task.deadline.check()
    except ServingError as error:
        task.done.set_exception(error) if task.done.set_running_or_notify_cancel() else None
        return False
    return task.done.set_running_or_notify_cancel()


def _run(batch: _Batch, tasks: list[_Task], parameters: BatchingParameters) -> None:
    """Computes tasks as one batch. If that fails, computes the tasks one by one, so that only faulty requests fail."""
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
    padding = parameters.padded_size(rows) - rows if rows else 0
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
    """Concatenates arrays, each padded to the largest with its first value; repeats the last row `padding` times."""
    largest = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
    padded = [_pad(array, largest) for array in arrays]
    merged = padded[0] if len(padded) == 1 else np.concatenate(padded)
    return np.concatenate([merged, np.repeat(merged[-1:], padding, 0)]) if padding else merged


def _pad(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.shape[1:] == shape:
        return array
    if not array.size:
        raise invalid("Tensors without values cannot be padded")
    padded = np.full((len(array), *shape), array.flat[0], array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def _latest(tasks: list[_Task]) -> Deadline:
    """Returns the latest deadline of the tasks, which is the deadline of their batch."""
    waits = [task.deadline.remaining() for task in tasks]
    return Deadline(None if None in waits else max(wait for wait in waits if wait is not None))
