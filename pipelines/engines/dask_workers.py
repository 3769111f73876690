"""The engine "dask": the workers of a Dask cluster, or processes of this machine."""

import asyncio
import logging
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from keras_retrieval.errors import first_line, missing_extra

from ..files.child_process import without_current_folder
from . import shipped
from .work import Engine, EngineError, Job, Outcome, attempt_in_cluster, other_version, this_version

VARIABLE = "DASK_SCHEDULER_ADDRESS"
"""The environment variable with the address of a scheduler."""
_CONNECT = 30  # seconds
_WAIT = 1.0  # seconds after which signals are looked at


class DaskWorkers:
    """Workers of a Dask cluster; each process opens the job once.

    Args:
        job: what a worker opens.
        engine: the address of the scheduler, and the number of workers that are used at a time.

    Raises:
        MissingExtraError: the package distributed is not installed.
        EngineError: the scheduler cannot be reached.
    """

    def __init__(self, job: Job, engine: Engine) -> None:
        try:
            import cloudpickle
            import dask
            import distributed
        except ImportError as error:
            raise missing_extra("Dask distributed", "dask", error) from error
        self._distributed, self._pack = distributed, cloudpickle.dumps
        cloudpickle.register_pickle_by_value(shipped)
        self._job, self._token, self._version = job, uuid4().hex, this_version()
        self._running: dict[Any, int] = {}
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._most, self._cluster, self._at_end = engine.workers, None, ExitStack()
        address = engine.address or os.environ.get(VARIABLE, "")
        if not address:
            self._at_end.enter_context(without_current_folder())  # also for workers that replace lost ones
            # Attempts are counted here: Dask itself would give the unit of a lost worker to three others.
            with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
                self._cluster = distributed.LocalCluster(
                    n_workers=engine.workers or 1,
                    threads_per_worker=1,
                    memory_limit=None,
                    dashboard_address="127.0.0.1:0",  # None would take port 8787 on all interfaces
                    silence_logs=logging.CRITICAL,
                )
        try:
            if not self._cluster:
                _reach(address)
            self._client = distributed.Client(self._cluster or address, timeout=_CONNECT, set_as_default=False)
        except Exception as error:  # each kind of address raises its own
            self._at_end.close()
            reason = first_line(error) or type(error).__name__
            raise EngineError(f"no Dask scheduler answers at {address}: {reason}") from error

    def room(self) -> int:
        """The number of workers without a unit. One unit is submitted even while the cluster has no worker."""
        count = self._count()
        return max(1, min(count, self._most or count)) - len(self._running)

    def present(self) -> bool:
        """Whether the cluster has a worker."""
        return self._count() > 0

    def _count(self) -> int:
        try:
            return len(self._client.nthreads())
        except (OSError, TimeoutError) as error:
            raise _lost(error) from error

    def submit(self, number: int, unit: Any) -> None:
        """Submits a unit under a key of its own, so that Dask takes no earlier result for it."""
        arguments = (self._token, self._version, self._job, number, unit)
        key = f"{type(self._job).__name__}-{number}-{uuid4().hex}"
        call = self._pack(shipped.Shipped(self._version, self._pack((attempt_in_cluster, arguments))))
        future = self._client.submit(pickle.loads, call, key=key, pure=False, retries=0)
        self._running[future] = number
        future.add_done_callback(self._ended.put)

    def outcomes(self) -> list[Outcome]:
        """Waits at most a second for units that are done."""
        if not self._running:
            return []
        try:
            future = self._ended.get(timeout=_WAIT)
        except Empty:
            if self._client.status != "running":
                raise _lost() from None
            return []
        return [self._outcome(future, self._running.pop(future))]

    def _outcome(self, future: Any, number: int) -> Outcome:
        if future.status == "finished":
            outcome, version = future.result()
            return outcome or other_version(number, version, self._version)
        if future.status == "error":
            error = future.exception()
            lost = isinstance(error, self._distributed.scheduler.KilledWorker)
            text = "its worker was lost" if lost else f"{type(error).__name__}: {first_line(error)}"
            return Outcome(number, error=text)
        if self._client.status != "running":
            raise _lost()
        return Outcome(number, error="the scheduler lost it")

    def close(self) -> None:
        """Releases the units that are not done; workers of this machine end."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()
        self._at_end.close()


def _reach(address: str) -> None:
    """Connects to an address once. A client that cannot would be waited for a minute at the end of the process."""
    from distributed import Security
    from distributed.comm import connect

    async def reach() -> None:
        connection = await connect(address, timeout=_CONNECT, **Security().get_connection_args("client"))
        await connection.close()

    with ThreadPoolExecutor(1) as thread:  # the caller, such as a notebook, may have a loop of its own
        thread.submit(asyncio.run, reach()).result()


def _lost(error: Exception | None = None) -> EngineError:
    reason = f": {first_line(error)}" if error else ""
    return EngineError(
        f"the connection to the Dask scheduler was lost{reason}. Run the same command again: it does only what is not "
        "done"
    )
