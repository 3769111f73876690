"""Runs units of work on workers: in this process, or on a cluster of machines; see the module `work`."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sized
from typing import Any, TypeVar

from ..files.progress import progress
from .work import ATTEMPTS, DASK, Engine, EngineError, Job, Outcome, UnitsFailedError, Worker, Workers, attempt

log = logging.getLogger("keras_retrieval")

HOPELESS = 3
"""Number of units that fail before any other succeeds, after which the run ends."""
PATIENCE = 60.0
"""Seconds without any worker after which a warning is logged."""

Unit = TypeVar("Unit", bound=Sized)


def run_units(
    job: Job,
    units: Mapping[int, Unit],
    *,
    engine: Engine,
    label: str,
    name: str = "photos",
    worker: Worker | None = None,
    done: Callable[[int, Any], None] = lambda number, result: None,
) -> None:
    """Does units of work, each in at most three attempts.

    An error of this package ends the run at once, because another attempt would not change it. After other errors, such
    as those of a file server, and after the loss of its worker, a unit is tried again when the other units are done.

    Args:
        job: what a worker opens.
        units: maps the number of each unit to its content, whose length is the number of its photos.
        engine: where the units are done.
        label: the name of the operation for the display of the progress.
        name: the plural name of what a unit consists of.
        worker: a worker that is open already, for the engine "local"; None to open one.
        done: is called with the number and the result of each unit.

    Raises:
        UnitsFailedError: units failed in every attempt; all others are done.
        EngineError: the cluster cannot be reached, or an attempt raised an error of this package on it.
        RetrievalError: an attempt in this process raised it.
    """
    if not units:
        return
    with progress(label, sum(map(len, units.values())), name) as advance:
        workers = _open(job, engine, worker, advance)
        try:
            _Run(workers, units, label, done, (lambda count: None) if engine.local else advance).run()
        finally:
            workers.close()


def _open(job: Job, engine: Engine, worker: Worker | None, advance: Callable[[int], None]) -> Workers:
    if engine.local:
        return _Here(worker or job.open(), advance)
    if engine.name == DASK:
        from .dask_workers import DaskWorkers

        return DaskWorkers(job, engine)
    from .ray_workers import RayWorkers

    return RayWorkers(job, engine)


class _Run:
    """The loop over units: submits them, counts attempts, and lists failed units."""

    def __init__(
        self,
        workers: Workers,
        units: Mapping[int, Unit],
        label: str,
        done: Callable[[int, Any], None],
        advance: Callable[[int], None],
    ) -> None:
        self._workers, self._units, self._label, self._done, self._advance = workers, units, label, done, advance
        self._attempts: Counter[int] = Counter()
        self._failed: dict[int, str] = {}
        self._waiting = deque(units)
        self._running = self._succeeded = 0

    def run(self) -> None:
        alone, told = time.monotonic(), False
        while self._waiting or self._running:
            for _ in range(min(self._workers.room(), len(self._waiting))):
                number = self._waiting.popleft()
                self._workers.submit(number, self._units[number])
                self._running += 1
            if self._running and self._workers.present():
                alone = time.monotonic()
            elif time.monotonic() - alone > PATIENCE and not told:
                told = True
                log.warning(f"{self._label}: waiting for workers: the cluster has none that is free")
            for outcome in self._workers.outcomes():
                self._running -= 1
                self._take(outcome)
        if self._failed:
            raise UnitsFailedError(self._label, self._failed, len(self._units))

    def _take(self, outcome: Outcome) -> None:
        number = outcome.number
        if not outcome.error:
            self._succeeded += 1
            self._advance(len(self._units[number]))
            self._done(number, outcome.result)
            return
        if outcome.final:
            raise outcome.raised or EngineError(f"{self._label}: a worker reports: {outcome.error}")
        self._attempts[number] += 1
        log.warning(f"{self._label}: attempt {self._attempts[number]} at unit {number} failed: {outcome.error}")
        if self._attempts[number] < ATTEMPTS:
            self._waiting.append(number)
            return
        self._failed[number] = outcome.error
        if len(self._failed) >= HOPELESS and not self._succeeded:
            raise UnitsFailedError(self._label, self._failed, len(self._units)) from outcome.raised


class _Here:
    """The engine "local": one worker, which is this process."""

    def __init__(self, worker: Worker, advance: Callable[[int], None]) -> None:
        self._worker, self._advance = worker, advance
        self._next: tuple[int, Any] | None = None

    def room(self) -> int:
        return 0 if self._next else 1

    def present(self) -> bool:
        return True

    def submit(self, number: int, unit: Any) -> None:
        self._next = number, unit

    def outcomes(self) -> list[Outcome]:
        assert self._next is not None
        counted = 0

        def advance(count: int) -> None:
            nonlocal counted
            counted += count
            self._advance(count)

        outcome = attempt(self._worker, *self._next, advance)
        self._next = None
        if outcome.error:
            self._advance(-counted)
        return [outcome]

    def close(self) -> None:
        pass
