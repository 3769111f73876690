"""Dynamic batching: merges concurrent requests into one batch, with the parameters of TensorFlow Serving.

A request joins a waiting batch for the same version and the same output tensors if its input tensors have the same
shapes, apart from the number of rows, and the batch does not become too large. A batch is computed when it is full, or
when its first request has waited for `batch_timeout_micros`. The number of waiting batches is limited; when this limit
is reached, further requests fail at once with UNAVAILABLE. Where large requests are split, their parts are placed like
requests, the first into the batch that is being filled.
"""

import collections
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

import numpy as np

from .batching_parameters import BatchingParameters
from .errors import Code, ServingError, invalid
from .limits import Deadline, expired
from .metrics import INPUT_BATCH_SIZE, PADDING_SIZE, PROCESSED_BATCH_SIZE, QUEUING_LATENCY, RUN_COUNT, Metrics
from .servable import Run, Servable

QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full"


@dataclass
class _Task:
    feeds: Mapping[str, np.ndarray]
    rows: int
    deadline: Deadline
    done: "Future[list[np.ndarray]]" = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)


@dataclass
class _Batch:
    servable: Servable
    parameters: BatchingParameters
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
        otherwise: function that computes the requests of versions without parameters of their own
            (`Servable.batching`); None if all versions are batched with `parameters`. If it is given, only the number
            of threads is taken from `parameters`.
        metrics: metrics in which waits and sizes of batches are counted.
    """

    def __init__(
        self, parameters: BatchingParameters, otherwise: Run | None = None, metrics: Metrics | None = None
    ) -> None:
        self.parameters, self._otherwise, self._metrics = parameters, otherwise, metrics or Metrics()
        self._waiting: collections.deque[_Batch] = collections.deque()
        self._changed = threading.Condition()
        self._stopped = False
        threads = range(parameters.num_batch_threads)
        name = parameters.thread_pool_name
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in threads]
        for thread in self._threads:
            thread.start()

    def __call__(
        self, servable: Servable, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: Deadline
    ) -> list[np.ndarray]:
        """Computes a request as part of one or more batches, and waits for the result.

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
        parameters = self.parameters if self._otherwise is None else servable.batching
        if parameters is None:
            assert self._otherwise is not None
            return self._otherwise(servable, feeds, fetches, deadline)
        rows = _rows(feeds)
        if rows > parameters.max_batch_size:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {parameters.max_batch_size}")
        with self._changed:
            tasks = self._place(_Task(feeds, rows, deadline), servable, parameters, tuple(fetches))
            self._changed.notify_all()
        try:
            parts = [task.done.result(deadline.remaining()) for task in tasks]
        except (TimeoutError, CancelledError):
            raise expired() from None
        finally:
            for task in tasks:
                task.done.cancel()
        return parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    @property
    def waiting(self) -> int:
        """The number of requests, or parts of requests, that wait for their computation."""
        with self._changed:
            return sum(len(batch.tasks) for batch in self._waiting)

    def stop(self) -> None:
        """Computes the waiting batches, and ends the threads."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _place(
        self, task: _Task, servable: Servable, parameters: BatchingParameters, fetches: tuple[str, ...]
    ) -> list[_Task]:
        """Puts a task, or its parts, into waiting batches; returns what was put there.

        Raises:
            ServingError: UNAVAILABLE if more batches would wait than are allowed; nothing has been put then.
        """
        shapes = _mergeable(task.feeds, parameters)
        same_queue = [b for b in self._waiting if b.servable is servable and b.fetches == fetches]
        same_shapes = [batch for batch in same_queue if batch.shapes == shapes]
        largest = parameters.execution_batch_size
        fitting = [batch for batch in same_shapes if batch.rows + task.rows <= largest]
        if fitting:
            fitting[0].tasks.append(task)
            return [task]
        last = same_shapes[-1] if parameters.enable_large_batch_splitting and same_shapes else None
        room = largest - last.rows if last is not None else 0
        tasks = _split(task, room, largest)
        more = tasks if room == 0 else tasks[1:]
        if len(same_queue) + len(more) > parameters.max_enqueued_batches:
            raise ServingError(Code.UNAVAILABLE, QUEUE_FULL)
        if last is not None and room:
            last.tasks.append(tasks[0])
        due = time.monotonic() + parameters.batch_timeout_micros / 1e6
        for part in more:
            servable.acquire()  # released after the batch, which may be computed after its requests have expired
            self._waiting.append(_Batch(servable, parameters, fetches, shapes, due, [part]))
        return tasks

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            with batch.servable.releasing():
                tasks = [task for task in batch.tasks if _is_wanted(task)]
                if tasks:
                    self._count(batch.parameters, tasks)
                    _run(batch, tasks)
            del batch, tasks  # so that an idle thread keeps no version in memory

    def _count(self, parameters: BatchingParameters, tasks: list[_Task]) -> None:
        rows, now = sum(task.rows for task in tasks), time.monotonic()
        processed = parameters.padded_size(rows) if rows else 0
        for task in tasks:
            waited = now - task.queued
            self._metrics.time(QUEUING_LATENCY, waited, thread_pool_name=self.parameters.thread_pool_name)
            self._metrics.add(INPUT_BATCH_SIZE, task.rows)
        self._metrics.add(PROCESSED_BATCH_SIZE, processed)
        self._metrics.add(PADDING_SIZE, processed - rows, execution_batch_size=str(processed))
        self._metrics.count(RUN_COUNT)

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
        full = batch.rows >= batch.parameters.execution_batch_size
        return self._stopped or full or batch.due <= time.monotonic()


def _mergeable(feeds: Mapping[str, np.ndarray], parameters: BatchingParameters) -> tuple:
    if parameters.pad_variable_length_inputs:
        return tuple((name, feeds[name].dtype, feeds[name].ndim) for name in sorted(feeds))
    return tuple((name, feeds[name].dtype, feeds[name].shape[1:]) for name in sorted(feeds))


def _split(task: _Task, first: int, largest: int) -> list[_Task]:
    """Splits a task into parts of `largest` rows, before which there is a part of `first` rows unless that is 0."""
    if task.rows <= largest and not first:
        return [task]
    starts = [0, *range(first or largest, task.rows, largest)]
    parts = zip(starts, [*starts[1:], task.rows], strict=True)
    return [
        _Task({name: array[start:end] for name, array in task.feeds.items()}, end - start, task.deadline)
        for start, end in parts
    ]


def _rows(feeds: Mapping[str, np.ndarray]) -> int:
    if not feeds:
        raise invalid("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in feeds.values()):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _is_wanted(task: _Task) -> bool:
    try:
        task.deadline.check()
    except ServingError as error:
        task.done.set_exception(error) if task.done.set_running_or_notify_cancel() else None
        return False
    return task.done.set_running_or_notify_cancel()


def _run(batch: _Batch, tasks: list[_Task]) -> None:
    """Computes tasks as one batch. If that fails, computes the tasks one by one, so that only faulty requests fail."""
    try:
        outputs = _run_merged(batch, tasks)
    except Exception as error:
        if len(tasks) == 1:
            tasks[0].done.set_exception(error)
        else:
            for task in tasks:
                _run(batch, [task])
        return
    ends = np.cumsum([task.rows for task in tasks])
    for task, end in zip(tasks, ends, strict=True):
        task.done.set_result([output[end - task.rows : end] for output in outputs])


def _run_merged(batch: _Batch, tasks: list[_Task]) -> list[np.ndarray]:
    rows = sum(task.rows for task in tasks)
    padding = batch.parameters.padded_size(rows) - rows if rows else 0
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
