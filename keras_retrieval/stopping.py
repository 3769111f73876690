"""Ends a command that SIGTERM or Ctrl-C stops: unfinished files are removed, and a line says what is kept."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import printable

TERMINATED = 143  # exit status of a command that SIGTERM stopped, by the convention of shells
PATIENCE = 5.0  # seconds that native code may take until Python can end it; then the process ends at once

_reports: list[Callable[[], None]] = []  # what the blocks that a stop would end print, the innermost last
_stop: Callable[..., None] | None = None  # the handler of SIGTERM while there is one of this module
_wakeup = -1  # the file to which Python writes signals, while a process is forked


@contextmanager
def reporting_stop(report: Callable[[], str]) -> Iterator[None]:
    """Context manager that prints a line on stderr if SIGTERM or Ctrl-C stops its block; see `terminable`.

    Args:
        report: returns the line, called when the block has ended; after 5 seconds in another thread.
    """

    def show() -> None:
        print(printable(report()), file=sys.stderr, flush=True)

    _reports.append(show)
    try:
        with terminable():
            yield
    except KeyboardInterrupt:
        show()
        raise
    except SystemExit as end:
        if end.code == TERMINATED:
            show()
        raise
    finally:
        _reports.remove(show)


@contextmanager
def terminable() -> Iterator[None]:
    """Context manager in whose block SIGTERM raises SystemExit (status 143), so that unfinished files are removed.

    Native code delays that; after 5 seconds the process ends nevertheless. Only the main thread can be stopped in this
    way, and a program that handles SIGTERM itself is not disturbed. In a block within another one, nothing changes.
    """
    global _stop
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
    watcher = threading.Thread(target=_watch, args=(reader, done), daemon=True)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, stop)
    _stop = stop
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
        _stop = None


@contextmanager
def suspended() -> Iterator[None]:
    """Context manager in whose block `terminable` has no effect, for code that handles SIGTERM itself."""
    if _stop is None or signal.getsignal(signal.SIGTERM) is not _stop:
        yield
        return
    handler, wakeup = _stop, _forget()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)


def _forget() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return signal.set_wakeup_fd(-1)


def _before_fork() -> None:
    """Closes the way to the watcher, which the child inherits: its signals would stop the parent."""
    global _wakeup
    if _stop is not None and threading.current_thread() is threading.main_thread():
        _wakeup = signal.set_wakeup_fd(-1)


def _after_fork_in_parent() -> None:
    global _wakeup
    if _wakeup != -1:
        signal.set_wakeup_fd(_wakeup, warn_on_full_buffer=False)
        _wakeup = -1


def _after_fork_in_child() -> None:
    if _stop is not None:
        _forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _watch(reader: int, done: threading.Event) -> None:
    """Ends the process if SIGTERM arrives and the block does not end in time."""
    main = threading.main_thread().ident
    while number := os.read(reader, 1):
        if number[0] != signal.SIGTERM:
            continue
        if main is not None:
            # The system may have given the signal to another thread, which leaves a wait of the main thread alone.
            signal.pthread_kill(main, signal.SIGTERM)
        if not done.wait(PATIENCE):
            for show in _reports[-1:]:
                show()
            os._exit(TERMINATED)
        return
