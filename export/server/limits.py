"""How long a request may take, how many may be in the house, and how many compute at once.

A server that takes in everything ends in a queue that outlives its clients. Here a request is let in or refused at once
(InFlight), waits its turn no longer than its deadline (Turns), and is not computed once nobody waits for it (Call).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import Code, ServingError

LONGEST_WAIT = 1e6  # seconds; gRPC tells a client that waits for ever by a deadline in 300 billion years


class Call:
    """One client's wait.

    Args:
        seconds: how long the client waits; None, or more than LONGEST_WAIT, if for ever.
        active: tells whether it still does.
    """

    def __init__(self, seconds: float | None = None, active: Callable[[], bool] = lambda: True) -> None:
        for_ever = seconds is None or seconds > LONGEST_WAIT
        self.deadline = None if for_ever else time.monotonic() + (seconds or 0.0)
        self.active = active

    def remaining(self) -> float | None:
        """Seconds left, at least 0; None without a deadline."""
        return None if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)

    def check(self) -> None:
        """Raises ServingError if nobody waits for the answer any more: it need not be computed."""
        if self.remaining() == 0.0:
            raise expired()
        if not self.active():
            raise ServingError(Code.CANCELLED, "The client cancelled the request")


def expired() -> ServingError:
    """The answer to a request whose deadline has passed; TensorFlow's words for a run that took too long."""
    return ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")


class Turns:
    """At most `limit` computations at once; the others wait, each no longer than its deadline."""

    def __init__(self, limit: int) -> None:
        self._free = threading.Semaphore(limit)

    @contextmanager
    def turn(self, call: Call) -> Iterator[None]:
        """Waits for a turn and holds it. Raises ServingError, without a turn, once nobody waits for the answer."""
        if not self._free.acquire(timeout=call.remaining()):
            raise expired()
        try:
            call.check()
            yield
        finally:
            self._free.release()


class InFlight:
    """Requests in the house, waiting and computing: at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self._changed = threading.Condition()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Lets a request in, or raises RESOURCE_EXHAUSTED at once."""
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
        """Waits until no request is left, at most `seconds`; tells whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count == 0, seconds)
