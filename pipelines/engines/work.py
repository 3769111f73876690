"""Units of work, the workers that do them, and the result of an attempt.

A step divides its work into units, such as the photos of one shard. Any worker may do a unit, and may do it more than
once: a worker can be lost after it wrote, or be taken for lost while it still writes. So the last thing that a worker
does is a commit that only one attempt can make, see `ShardedFolder.commit` in the module `shards`. Units of which a
commit exists are not given to `run_units` (module `engine`) again, so that a killed run continues where it stopped.

The step's `Job` is what a worker opens once and keeps, such as a network; it is sent to the workers of a cluster by
pickle, with the units. Results are small: what a worker computes, it writes.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from keras_retrieval.errors import RetrievalError

from ..files.remote import RemoteError

log = logging.getLogger("keras_retrieval")

ATTEMPTS = 3
"""Largest number of times that a unit is tried."""
LISTED = 10  # failed units that the error message names

LOCAL, DASK, RAY = "local", "dask", "ray"

Worker = Callable[[int, Any, Callable[[int], None]], Any]
"""A function of a unit's number, the unit, and a function that counts the progress; returns the unit's result."""


class EngineError(RetrievalError, RuntimeError):
    """A cluster cannot be reached, or a worker reports an error that another attempt would not change."""


class UnitsFailedError(EngineError):
    """Units of work failed in every attempt. Running the same command again tries only these.

    Attributes:
        failed: maps the number of each failed unit to the error of its last attempt.
    """

    def __init__(self, label: str, failed: Mapping[int, str], total: int) -> None:
        self.failed = dict(failed)
        some = "; ".join(f"unit {number}: {reason}" for number, reason in list(self.failed.items())[:LISTED])
        more = f"; and {len(self.failed) - LISTED} more" if len(self.failed) > LISTED else ""
        super().__init__(
            f"{label}: {len(self.failed):,} of {total:,} units of work failed {ATTEMPTS} times: {some}{more}. Run the "
            "same command again: it does only what is not done"
        )


class Job(Protocol):
    """What a worker needs for the units of a step; it can be pickled."""

    def open(self) -> Worker:
        """Prepares a worker, once in each process: loads a network, for example."""


@dataclass(frozen=True)
class Engine:
    """Where units of work are done.

    Attributes:
        name: "local", "dask" or "ray".
        address: the address of a cluster; "" for that of the engine's environment variable, or for a cluster of this
            machine that ends with the step.
        workers: the number of workers; 0 for one for each GPU of the cluster, or without GPUs for each machine.
    """

    name: str = LOCAL
    address: str = ""
    workers: int = 0

    @property
    def local(self) -> bool:
        """Whether the units are done in this process, one after another."""
        return self.name == LOCAL


@dataclass(frozen=True)
class Outcome:
    """The result of one attempt at a unit.

    Attributes:
        number: the number of the unit.
        result: what the worker returned.
        error: the error; "" if there is none.
        final: whether another attempt would not change the error.
        raised: the error itself, if the worker is in this process.
    """

    number: int
    result: Any = None
    error: str = ""
    final: bool = False
    raised: Exception | None = None


class Workers(Protocol):
    """The seam between the engines: workers that take units and return outcomes."""

    def room(self) -> int:
        """The number of units that can be submitted now."""

    def present(self) -> bool:
        """Whether there is a worker. A unit that is submitted to a cluster without one waits for the first."""

    def submit(self, number: int, unit: Any) -> None:
        """Gives a unit to a worker that has none."""

    def outcomes(self) -> list[Outcome]:
        """Waits, at most about a second, for units that are done; a lost worker is the error of its unit."""

    def close(self) -> None:
        """Ends or releases the workers. What they are doing is not waited for."""


def attempt(worker: Worker, number: int, unit: Any, advance: Callable[[int], None] = lambda count: None) -> Outcome:
    """Does a unit once, and returns its result or its error."""
    try:
        return Outcome(number, worker(number, unit, advance))
    except RetrievalError as error:
        return Outcome(number, error=f"{type(error).__name__}: {error}", final=True, raised=error)
    except Exception as error:
        log.debug("unit %d failed", number, exc_info=True)
        text = " ".join(str(error).split())[:500]
        return Outcome(number, error=f"{type(error).__name__}: {text}", raised=error)


_opened: dict[str, Worker] = {}  # the worker of the last job in this process, by the run's token
_opening = threading.Lock()


def attempt_in_cluster(token: str, version: str, job: Job, number: int, unit: Any) -> Outcome:
    """Does a unit once in a process of a cluster, which opens a worker for the first unit of a run and keeps it.

    Args:
        token: names the run.
        version: the version of this package in the process that began the run.
        job: what the worker opens.
        number: the number of the unit.
        unit: the unit.

    Returns:
        The outcome without the error itself, which other processes may be unable to unpickle.
    """
    outcome = _open_and_attempt(token, version, job, number, unit)
    final = outcome.final and not isinstance(outcome.raised, RemoteError)  # another machine may reach the storage
    return Outcome(number, outcome.result, outcome.error, final)


def _open_and_attempt(token: str, version: str, job: Job, number: int, unit: Any) -> Outcome:
    from importlib.metadata import version as installed

    here = installed("keras-retrieval")
    if here != version:
        return other_version(number, here, version)

    def work(number: int, unit: Any, advance: Callable[[int], None]) -> Any:
        with _opening:
            if token not in _opened:
                opened = job.open()
                _opened.clear()
                _opened[token] = opened
            worker = _opened[token]
        return worker(number, unit, advance)

    return attempt(work, number, unit)


def other_version(number: int, here: str, version: str) -> Outcome:
    """Returns the outcome of an attempt on a worker with another version of this package, or "" without it."""
    has = f"keras-retrieval {here}" if here else "no keras-retrieval"
    problem = f"this worker has {has}, and the command {version}: install the same on all machines"
    return Outcome(number, error=problem, final=True)


def this_version() -> str:
    """The version of this package, which all workers must have."""
    from importlib.metadata import version

    return version("keras-retrieval")
