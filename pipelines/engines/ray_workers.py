"""The engine "ray": actors of a Ray cluster, or of this machine."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import uuid4

from keras_retrieval.errors import first_line, missing_extra

from .work import ATTEMPTS, Engine, EngineError, Job, Outcome, attempt_in_cluster, this_version

VARIABLE = "RAY_ADDRESS"
"""The environment variable with the address of a cluster."""
_WAIT = 1.0  # seconds after which signals are looked at


class RayWorkers:
    """Actors that keep what they opened. An actor that is lost is replaced; a unit is given only to one that runs.

    An actor has a GPU where the cluster has any, and actors are spread over the machines.

    Args:
        job: what a worker opens.
        engine: the address of the cluster, and the number of actors.

    Raises:
        MissingExtraError: the package ray is not installed.
        EngineError: the cluster cannot be reached.
    """

    def __init__(self, job: Job, engine: Engine) -> None:
        try:
            import ray
        except ImportError as error:
            raise missing_extra("Ray", "ray", error) from error
        self._ray, self._started = ray, not ray.is_initialized()
        if self._started:
            address = engine.address or os.environ.get(VARIABLE, "")
            where: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
            try:
                ray.init(**where, log_to_driver=False, logging_level="ERROR")
            except Exception as error:  # Ray raises plain ones, too: a machine that is busy does not start in 30 s
                what = f"no Ray cluster answers at {address}" if address else "Ray does not start on this machine"
                raise EngineError(f"{what}: {first_line(error)}") from error
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        self._actor = ray.remote(_Actor).options(
            num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        self._arguments = ray.put((uuid4().hex, this_version(), job))
        self._starting: dict[Any, Any] = {}  # from what an actor returns when it has begun, to the actor
        self._busy: dict[Any, tuple[Any, int]] = {}  # from what an actor returns for a unit, to both
        self._free: list[Any] = []
        self._lost_at_start = 0
        self._most = engine.workers or gpus or _machines(resources)
        for _ in range(self._most):
            self._start()

    def room(self) -> int:
        """The number of actors that run and have no unit."""
        return len(self._free)

    def present(self) -> bool:
        """Whether an actor runs."""
        return bool(self._free or self._busy)

    def submit(self, number: int, unit: Any) -> None:
        """Gives a unit to an actor that has none."""
        actor = self._free.pop()
        self._busy[actor.attempt.remote(number, unit)] = actor, number

    def outcomes(self) -> list[Outcome]:
        """Waits at most a second for units that are done, and for actors that have begun."""
        ended, _ = self._ray.wait([*self._busy, *self._starting], num_returns=1, timeout=_WAIT)
        found = []
        for reference in ended:
            if reference in self._starting:
                self._begun(reference)
            else:
                found.append(self._outcome(reference))
        return found

    def _begun(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._lost_at_start += 1
            if self._lost_at_start >= ATTEMPTS * self._most:
                raise EngineError(f"Ray's actors end before they begin: {first_line(error)}") from error
            self._start()
            return
        self._free.append(actor)

    def _outcome(self, reference: Any) -> Outcome:
        actor, number = self._busy.pop(reference)
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            self._free.append(actor)
            return Outcome(number, error=str(error).strip().splitlines()[-1])
        except self._ray.exceptions.RayError as error:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)  # one that is only unreachable would do units that nobody waits for
            self._start()
            return Outcome(number, error=f"its worker was lost: {type(error).__name__}")
        self._free.append(actor)
        return outcome

    def _start(self) -> None:
        actor = self._actor.remote(self._arguments)
        self._starting[actor.begun.remote()] = actor

    def close(self) -> None:
        """Ends the actors, and Ray if it was started for them."""
        for actor in [*self._free, *self._starting.values(), *(actor for actor, _ in self._busy.values())]:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()


class _Actor:
    def __init__(self, arguments: Any) -> None:
        self._arguments = arguments

    def begun(self) -> bool:
        return True

    def attempt(self, number: int, unit: Any) -> Outcome:
        token, version, job = self._arguments
        return attempt_in_cluster(token, version, job, number, unit)


def _machines(resources: Mapping[str, float]) -> int:
    return max(1, sum(name.startswith("node:") and name != "node:__internal_head__" for name in resources))
