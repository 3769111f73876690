"""Waiting with a deadline: a test that waits for another thread or process fails with a message and never hangs."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
SECONDS = 60.0  # far more than anything here takes, on a busy machine, too


def wait_until(condition: Callable[[], T], what: str, seconds: float = SECONDS, step: float = 0.01) -> T:
    """Waits until a condition is true, and returns its value; fails with `what` has not happened."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"after {seconds:g} s still not: {what}"
        time.sleep(step)
    return value


def join(threads: Iterable[threading.Thread], seconds: float = SECONDS) -> None:
    """Joins threads; fails if one of them has not ended within the deadline of all."""
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
        assert not thread.is_alive(), f"the thread {thread.name} has not ended within {seconds:g} s"


def results(futures: Iterable["Future[T]"], seconds: float = SECONDS) -> list[T]:
    """Results of futures; fails if one of them is not done within the deadline of all."""
    end, found = time.monotonic() + seconds, []
    for number, future in enumerate(futures):
        try:
            found.append(future.result(max(end - time.monotonic(), 0)))
        except TimeoutError:
            raise AssertionError(f"call {number} has not ended within {seconds:g} s") from None
    return found


def first_line(process: "subprocess.Popen[str]", seconds: float = SECONDS) -> str:
    """The first line that a process prints; kills the process and fails if none comes in time."""
    assert process.stdout is not None
    with ThreadPoolExecutor(1) as pool:
        line = pool.submit(process.stdout.readline)
        try:
            return line.result(seconds)
        except TimeoutError:
            process.kill()  # which ends the reading thread, too
            raise AssertionError(f"the process has printed nothing within {seconds:g} s") from None
