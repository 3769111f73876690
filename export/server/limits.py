"""Limits of a server: how long a request may take, how many are accepted, and how many compute at once.

Without them a server under load builds a queue that outlives its clients. A request is accepted or refused at once
(`RequestLimit`), waits for a compute slot no longer than its deadline (`ComputeSlots`), and is dropped once its client
has gone (`Deadline`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import Code, ServingError

LONGEST_WAIT = 1e6  # seconds; gRPC states no limit as a deadline in 300 billion years


class Deadline:
    """How long a client waits for its answer.

    Args:
        seconds: how long the client waits; None, or more than LONGEST_WAIT, for no limit.
        active: returns whether the client still waits.
    """

    def __init__(self, seconds: float | None = None, active: Callable[[], bool] = lambda: True) -> None:
        unlimited = seconds is None or seconds > LONGEST_WAIT
        self.expires = None if unlimited else time.monotonic() + (seconds or 0.0)
        self.active = active

    def remaining(self) -> float | None:
        """Seconds left, at least 0; None without a deadline."""
        return None if self.expires is None else max(self.expires - time.monotonic(), 0.0)

    def check(self) -> None:
        """Raises ServingError if the deadline has passed or the client has gone, so that nothing is computed."""
        if self.remaining() == 0.0:
            raise expired()
        if not self.active():
            raise ServingError(Code.CANCELLED, "The client cancelled the request")


def expired() -> ServingError:
    """The answer to a request whose deadline has passed; worded as TensorFlow words a run that took too long."""
    return ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")


class ComputeSlots:
    """At most `limit` computations at once; the others wait, each until its deadline."""

    def __init__(self, limit: int) -> None:
        self._free = threading.Semaphore(limit)

    @contextmanager
    def slot(self, deadline: Deadline) -> Iterator[None]:
        """Waits for a slot and occupies it. Raises ServingError if the deadline passes or the client goes first."""
        if not self._free.acquire(timeout=deadline.remaining()):
            raise expired()
        try:
            deadline.check()
            yield
        finally:
            self._free.release()


class RequestLimit:
    """Concurrent requests, waiting or computing: at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self._changed = threading.Condition()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Accepts a request, or raises RESOURCE_EXHAUSTED at once."""
        with self._changed:
            if self.count >= self.limit:
                raise ServingError(Code.RESOURCE_EXHAUSTED, f"{self.limit} requests are waiting already; try again")
            self.count += 1
        try:
            yield
        finally:
            with self._changed:
                self.count -= 1
                self._changed.notify_all()

    def drained(self, seconds: float) -> bool:
        """Waits until no request is left, at most `seconds`; returns whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count == 0, seconds)
