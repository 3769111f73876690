"""Ends a command that SIGTERM or Ctrl-C stops: unfinished files are removed, and a line says what is kept."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from .errors import printable

TERMINATED = 143  # exit status of a command that SIGTERM stopped, by the convention of shells
PATIENCE = 5.0  # seconds that native code may take until Python can end it; then the process ends at once
_AGAIN = 0.05  # seconds until the signal is sent again to a block that it has not reached

_reports: list[Callable[[], None]] = []  # what the blocks that a stop would end print, the innermost last
_stop: "_Stop | None" = None  # the handler of SIGTERM while there is one of this module
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

    stop = _Stop()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(reader, done, stop), daemon=True)
    before, hook = signal.set_wakeup_fd(writer, warn_on_full_buffer=False), sys.unraisablehook
    signal.signal(signal.SIGTERM, stop)
    sys.unraisablehook = stop.noticing(hook)
    _stop = stop
    watcher.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        # The end of the file is no sign for the watcher: a process that was forked in the block has the writer, too.
        with suppress(BlockingIOError):  # so full that there is enough to read
            os.write(writer, b"\0")
        os.close(writer)
        watcher.join()  # before the handler is gone, because the watcher may send the signal once more
        os.close(reader)
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _stop = None


class _Stop:
    """The handler of SIGTERM, which raises SystemExit once: a second signal does not disturb the removal of files.

    Attributes:
        raised: whether the exception was raised; until then, the watcher sends the signal again.
    """

    def __init__(self) -> None:
        self.raised = False

    def __call__(self, _: int, frame: FrameType | None) -> None:
        if not self.raised and not _imports(frame):  # the import of a native library crashes where it is interrupted
            self.raised = True
            raise SystemExit(TERMINATED)

    def noticing(self, hook: Callable[[Any], object]) -> Callable[[Any], object]:
        """Makes a hook for exceptions that are ignored, as in a callback of native code: this one is raised again."""

        def noticed(ignored: Any) -> None:
            if isinstance(ignored.exc_value, SystemExit) and ignored.exc_value.code == TERMINATED:
                self.raised = False
            else:
                hook(ignored)

        return noticed


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


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


def _watch(reader: int, done: threading.Event, stop: _Stop) -> None:
    """Ends the process if SIGTERM arrives and the block does not end in time."""
    main = threading.main_thread().ident
    while (number := os.read(reader, 1)) and not done.is_set():
        if number[0] != signal.SIGTERM:
            continue
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if not stop.raised and main is not None:
                # The system may have given the signal to another thread, which leaves a wait of the main thread alone.
                signal.pthread_kill(main, signal.SIGTERM)
            if done.wait(_AGAIN):
                return
        for show in _reports[-1:]:
            show()
        os._exit(TERMINATED)
