"""What gRPC and REST have in common: a request is let in, finds its version, runs, and is counted."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from .errors import Code, ServingError, known
from .limits import ComputeSlots, Deadline, RequestLimit
from .metrics import REQUEST_COUNT, REQUEST_LATENCY, RUNTIME_LATENCY, Metrics
from .model_registry import ModelRegistry
from .servable import Run, Servable

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class ServingCore:
    """Models, and the way to them.

    Args:
        models: what is served.
        in_flight: bound of the requests in the house.
        run: how a version is run: in its turn, or in batches.
    """

    def __init__(self, models: ModelRegistry, in_flight: RequestLimit, run: Run) -> None:
        self.models, self.in_flight, self.metrics = models, in_flight, Metrics()
        self._run = run

    def answer(self, api: str, entrypoint: str, spec: Any, work: Callable[[Servable, Run], Answer]) -> Answer:
        """Does a request's work on the version that it names.

        Args:
            api: "Predict", "Classify", ..., for the metrics.
            entrypoint: "GRPC" or "REST", for the metrics.
            spec: ModelSpec of the request.
            work: makes the answer from the version and the way to run it.

        Raises:
            ServingError: whatever went wrong. What nobody foresaw is logged and told as INTERNAL.
        """
        started, code = time.monotonic(), Code.OK
        try:
            with self.in_flight.admitted(), self._held(spec) as servable:
                return work(servable, self._timed(api))
        except Exception as error:
            failure = known(error) or _unforeseen(api, error)
            code = failure.code
            raise failure from (None if failure is error else error)
        finally:
            # Names that clients invent would fill the memory.
            name = spec.name if spec.name in self.models.names() else ""
            self.metrics.count(REQUEST_COUNT, model_name=name, status=code.name)
            seconds = time.monotonic() - started
            self.metrics.time(REQUEST_LATENCY, seconds, model_name=name, API=api, entrypoint=entrypoint)

    def _held(self, spec: Any) -> Any:
        return self.models.acquire(spec).held()

    def _timed(self, api: str) -> Run:
        def run(
            servable: Servable, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: Deadline
        ) -> list[np.ndarray]:
            started = time.monotonic()
            values = self._run(servable, feeds, fetches, deadline)
            seconds = time.monotonic() - started
            self.metrics.time(RUNTIME_LATENCY, seconds, model_name=servable.name, API=api, runtime="TF1")
            return values

        return run


def run_in_slot(slots: ComputeSlots) -> Run:
    """A Run that computes at most as many requests at once as there are slots."""

    def run(
        servable: Servable, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: Deadline
    ) -> list[np.ndarray]:
        with slots.slot(deadline):
            return servable.run(feeds, fetches, deadline)

    return run


def _unforeseen(api: str, error: Exception) -> ServingError:
    logger.error("%s failed", api, exc_info=error)
    return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")
