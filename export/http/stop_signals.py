"""The signals that end a server."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from keras_retrieval.stopping import suspended


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Provides an event that the first Ctrl-C or SIGTERM sets; restores the signal handlers when the context exits."""
    stopped = threading.Event()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        restore()  # a second signal ends the process at once
        # Not here: the main thread may hold the lock of the event that it is about to wait for, and would wait for
        # itself.
        threading.Thread(target=stopped.set).start()

    with suspended():
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield stopped
        finally:
            restore()
