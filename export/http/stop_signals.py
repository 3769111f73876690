"""The signals that end a server."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from keras_retrieval.stopping import suspended


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Provides an event that the first Ctrl-C or SIGTERM sets; restores the signal handlers when the context exits."""
    stopped = threading.Event()
    signals: SimpleQueue[int] = SimpleQueue()

    def follow() -> None:
        if signals.get():
            stopped.set()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, _: object) -> None:
        restore()  # a second signal ends the process at once
        # Neither sets the event nor starts a thread: the main thread, which a signal interrupts anywhere, may hold the
        # lock that this takes, and would wait for itself. This queue is made for that.
        signals.put(number)

    threading.Thread(target=follow, daemon=True, name="stop").start()
    with suspended():
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield stopped
        finally:
            restore()
            signals.put(0)
