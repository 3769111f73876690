"""Ends a command that SIGTERM or Ctrl-C stops with a line that says what is kept."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from keras_retrieval.errors import printable

TERMINATED = 143  # exit status of a command that SIGTERM stopped, by the convention of shells
PATIENCE = 5.0  # seconds that native code may take until Python can end it; then the process ends at once


@contextmanager
def reporting_stop(report: Callable[[], str]) -> Iterator[None]:
    """Context manager that prints a line on stderr if SIGTERM or Ctrl-C stops its block.

    SIGTERM raises SystemExit (status 143) in the block, so that unfinished files are removed. Native code delays that;
    after 5 seconds the process ends nevertheless. Only the main thread can be stopped in this way, and a program that
    handles SIGTERM itself is not disturbed.

    Args:
        report: returns the line, called when the block has ended; after 5 seconds in another thread.
    """

    def show() -> None:
        print(printable(report()), file=sys.stderr, flush=True)

    try:
        with _terminable(show):
            yield
    except KeyboardInterrupt:
        show()
        raise
    except SystemExit as end:
        if end.code == TERMINATED:
            show()
        raise


@contextmanager
def _terminable(show: Callable[[], None]) -> Iterator[None]:
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        if not stopped:  # a second signal does not disturb the removal of unfinished files
            stopped = True
            raise SystemExit(TERMINATED)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(reader, done, show), daemon=True)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, stop)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        os.close(writer)
        watcher.join()  # before the handler is gone, because the watcher may send the signal once more
        os.close(reader)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _watch(reader: int, done: threading.Event, show: Callable[[], None]) -> None:
    """Ends the process if SIGTERM arrives and the block does not end in time."""
    main = threading.main_thread().ident
    while number := os.read(reader, 1):
        if number[0] != signal.SIGTERM:
            continue
        if main is not None:
            # The system may have given the signal to another thread, which leaves a wait of the main thread alone.
            signal.pthread_kill(main, signal.SIGTERM)
        if not done.wait(PATIENCE):
            show()
            os._exit(TERMINATED)
        return
