"""Limits of a server: request time, the number of concurrent requests, and the number of concurrent computations.

Without these limits, a server under load builds a queue that outlives its clients. A request is accepted or refused at
once (`RequestLimit`), waits for a compute slot no longer than its deadline (`ComputeSlots`), and is dropped once its
client has disconnected (`Deadline`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import Code, ServingError

LONGEST_WAIT = 1e6  # seconds; gRPC represents "no limit" as a deadline in 300 billion years


class Deadline:
    """The time until which a client waits for its response.

    Args:
        seconds: time that the client waits; None, or more than LONGEST_WAIT, for no limit.
        active: function that returns whether the client is still connected.
    """

    def __init__(self, seconds: float | None = None, active: Callable[[], bool] = lambda: True) -> None:
        unlimited = seconds is None or seconds > LONGEST_WAIT
        self.expires = None if unlimited else time.monotonic() + (seconds or 0.0)
        self.active = active

    def remaining(self) -> float | None:
        """Returns the seconds left, at least 0; None without a deadline."""
        return None if self.expires is None else max(self.expires - time.monotonic(), 0.0)

    def check(self) -> None:
        """Checks, before anything is computed, that the client is still waiting.

        Raises:
            ServingError: DEADLINE_EXCEEDED or CANCELLED.
        """
        if self.remaining() == 0.0:
            raise expired()
        if not self.active():
            raise ServingError(Code.CANCELLED, "The client cancelled the request")


def expired() -> ServingError:
    """Makes the error DEADLINE_EXCEEDED, with TensorFlow's message for a computation that took too long."""
    return ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")


class ComputeSlots:
    """Limits concurrent computations to `limit`; the others wait, each until its deadline."""

    def __init__(self, limit: int) -> None:
        self._free = threading.Semaphore(limit)

    @contextmanager
    def slot(self, deadline: Deadline) -> Iterator[None]:
        """Waits for a slot and occupies it until the context exits.

        Raises:
            ServingError: the deadline passed, or the client disconnected, before a slot became free.
        """
        if not self._free.acquire(timeout=deadline.remaining()):
            raise expired()
        try:
            deadline.check()
            yield
        finally:
            self._free.release()


class RequestLimit:
    """Limits concurrent requests, whether waiting or being computed, to `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self._changed = threading.Condition()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts a request until the context exits.

        Raises:
            ServingError: RESOURCE_EXHAUSTED, at once, if the limit is reached.
        """
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
        """Waits up to `seconds` until no request is left; returns whether none is left."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count == 0, seconds)
