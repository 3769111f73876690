"""Limits of a server on the duration of requests, on concurrent requests and on concurrent computations.

Without limits, a server under load builds up a queue of requests whose clients no longer wait. Therefore a request is
accepted or refused at once (`RequestLimit`), waits for a compute slot at most until its deadline (`ComputeSlots`), and
is dropped when its client has disconnected (`Deadline`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import Code, ServingError

LONGEST_WAIT = 1e6  # seconds; gRPC represents "no limit" as a deadline in 300 billion years


class Deadline:
    """The time until which a client waits for the response to a request.

    Args:
        seconds: number of seconds from now; None, or more than LONGEST_WAIT (1e6), for no limit.
        active: function that returns whether the client is still connected.

    Attributes:
        expires: deadline as a value of time.monotonic(); None for no limit.
        active: function that returns whether the client is still connected.
    """

    def __init__(self, seconds: float | None = None, active: Callable[[], bool] = lambda: True) -> None:
        unlimited = seconds is None or seconds > LONGEST_WAIT
        self.expires = None if unlimited else time.monotonic() + (seconds or 0.0)
        self.active = active

    def remaining(self) -> float | None:
        """Returns the number of seconds until the deadline, at least 0; None for no limit."""
        return None if self.expires is None else max(self.expires - time.monotonic(), 0.0)

    def check(self) -> None:
        """Checks that the client is still waiting. Called before a computation starts.

        Raises:
            ServingError: DEADLINE_EXCEEDED if the deadline has passed, CANCELLED if the client has disconnected.
        """
        if self.remaining() == 0.0:
            raise expired()
        if not self.active():
            raise ServingError(Code.CANCELLED, "The client cancelled the request")


def expired() -> ServingError:
    """Makes the error DEADLINE_EXCEEDED, with TensorFlow's message for a computation that took too long."""
    return ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")


class ComputeSlots:
    """Limits the number of concurrent computations. Further computations wait, each until its deadline.

    Args:
        limit: maximum number of concurrent computations.

    Attributes:
        waiting: current number of computations that wait.
    """

    def __init__(self, limit: int) -> None:
        self.waiting = 0
        self._free = threading.Semaphore(limit)
        self._counting = threading.Lock()

    @contextmanager
    def slot(self, deadline: Deadline) -> Iterator[None]:
        """Waits for a free slot, and occupies it until the context exits.

        Args:
            deadline: deadline of the request.

        Raises:
            ServingError: the deadline passed (DEADLINE_EXCEEDED) or the client disconnected (CANCELLED) before the
                computation could start.
        """
        if not self._free.acquire(blocking=False):
            self._wait(deadline)
        try:
            deadline.check()
            yield
        finally:
            self._free.release()

    def _wait(self, deadline: Deadline) -> None:
        with self._counting:
            self.waiting += 1
        try:
            if not self._free.acquire(timeout=deadline.remaining()):
                raise expired()
        finally:
            with self._counting:
                self.waiting -= 1


class RequestLimit:
    """Limits the number of concurrent requests, whether they wait or are being computed.

    Args:
        limit: maximum number of concurrent requests.

    Attributes:
        limit: maximum number of concurrent requests.
        count: current number of requests.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self._changed = threading.Condition()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts a request as running until the context exits.

        Raises:
            ServingError: RESOURCE_EXHAUSTED if the limit is reached; the request does not wait.
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
        """Waits until no request is running.

        Args:
            seconds: maximum time to wait in seconds.

        Returns:
            Whether no request is running.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self.count == 0, seconds)
