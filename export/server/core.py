"""Request handling that gRPC and REST share: limits, look-up of versions, computation, errors and metrics."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from .errors import Code, ServingError, as_serving_error
from .limits import ComputeSlots, Deadline, RequestLimit
from .metrics import EXAMPLE_COUNT, EXAMPLE_COUNTS, REQUEST_COUNT, REQUEST_LATENCY, RUNTIME_LATENCY, Metrics
from .model_registry import ModelRegistry
from .servable import Run, Servable

logger = logging.getLogger(__name__)
TIMED, OF_EXAMPLES = ("Predict", "Classify", "Regress"), ("Classify", "Regress", "MultiInference")
Answer = TypeVar("Answer")


class ServingCore:
    """Answers requests for served models.

    Args:
        models: the served models.
        in_flight: limit on concurrent requests.
        run: function that computes tensors on a version, in a compute slot or in a batch; see `servable.Run`.
        metrics: counts and latencies, also of others.
        check_method_names: whether a signature must have the method of the request.

    Attributes:
        models: the served models.
        in_flight: limit on concurrent requests.
        metrics: counts and latencies of requests.
        check_method_names: whether a signature must have the method of the request.
    """

    def __init__(
        self,
        models: ModelRegistry,
        in_flight: RequestLimit,
        run: Run,
        metrics: Metrics | None = None,
        check_method_names: bool = False,
    ) -> None:
        self.models, self.in_flight, self.metrics = models, in_flight, metrics or Metrics()
        self.check_method_names = check_method_names
        self._run = run

    def answer(self, api: str, spec: Any, work: Callable[[Servable, Run], Answer]) -> Answer:
        """Answers a request with the version that its ModelSpec names.

        Args:
            api: name of the API method in the metrics of computations, such as "Predict" or "Classify".
            spec: ModelSpec of the request.
            work: function that computes the answer from the version and a `servable.Run` function.

        Returns:
            The result of `work`.

        Raises:
            ServingError: the request fails. Errors of TensorFlow are converted to ServingError; any other error is
                logged, and gets the code INTERNAL.
        """
        try:
            with self.in_flight.admitted(), self.models.acquire(spec).releasing() as servable:
                return work(servable, self._timed(api))
        except Exception as error:
            failure = as_serving_error(error) or _internal(api, error)
            raise failure from (None if failure is error else error)

    @contextmanager
    def counted(self, api: str, entrypoint: str, model: str) -> Iterator[None]:
        """Counts the request that is answered in the context in the metrics, with its latency if it succeeds.

        Args:
            api: name of the API method, such as "Predict".
            entrypoint: "GRPC" or "REST".
            model: name of the model in the request.
        """
        started, code = time.monotonic(), Code.OK
        try:
            yield
        except ServingError as error:
            code = error.code
            raise
        finally:
            # Only names of served models are counted, because names that clients invent would fill the memory.
            name = model if model in self.models.names() else ""
            self.metrics.count(REQUEST_COUNT, model_name=name, status=code.name)
            if code is Code.OK:
                seconds = time.monotonic() - started
                self.metrics.time(REQUEST_LATENCY, seconds, model_name=name, API=api, entrypoint=entrypoint)

    def _timed(self, api: str) -> Run:
        def run(
            servable: Servable, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: Deadline
        ) -> list[np.ndarray]:
            started = time.monotonic()
            values = self._run(servable, feeds, fetches, deadline)
            seconds = time.monotonic() - started
            if api in TIMED:
                self.metrics.time(RUNTIME_LATENCY, seconds, model_name=servable.name, API=api, runtime="TF1")
            if api in OF_EXAMPLES:
                examples = len(next(iter(feeds.values())))
                self.metrics.add(EXAMPLE_COUNTS, examples, model=servable.name)
                self.metrics.count(EXAMPLE_COUNT, examples, model=servable.name)
            return values

        return run


def run_in_slot(slots: ComputeSlots) -> Run:
    """Makes a `servable.Run` function that computes each request separately, in one of the given compute slots."""

    def run(
        servable: Servable, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: Deadline
    ) -> list[np.ndarray]:
        with slots.slot(deadline):
            return servable.run(feeds, fetches, deadline)

    return run


def _internal(api: str, error: Exception) -> ServingError:
    logger.error("%s failed", api, exc_info=error)
    return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")
