"""Notices that files of a folder have changed, by messages of the operating system or, without them, by looking.

The messages say only that something has changed: what, the intake finds out. Network drives send no messages, and some
systems limit the number of watched folders, so that the folder is looked at regularly in any case.
"""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from keras_retrieval.errors import first_line

log = logging.getLogger("keras_retrieval")

QUIET_SECONDS = 0.4  # without another message, after which a change counts as complete
LONGEST_SECONDS = 2.0  # after which a change is reported although more messages come
RESCAN_SECONDS = 60.0  # after which the folder is looked at without a message
POLL_SECONDS = 3.0  # the same where the system sends no messages
SHARE = 20  # looks take at most this fraction of the time: one in 20 s if it takes 1 s
_STEP_SECONDS = 0.25


class FolderWatch:
    """Watches a folder and its sub-folders in a thread of its own.

    Args:
        folder: the folder; it may be replaced by another one of the same name meanwhile.

    Attributes:
        reason: why the system sends no messages, a sentence; "" if it does.
    """

    def __init__(self, folder: Path) -> None:
        self.reason = ""
        self._folder, self._changed = folder, threading.Event()
        self._ended = threading.Event()
        self._identity = _identity(folder)
        self._begin()

    def wait(self, seconds_of_a_look: float, stopped: threading.Event) -> None:
        """Waits until the folder has changed or should be looked at.

        Args:
            seconds_of_a_look: the time that the last look took.
            stopped: an event that ends the wait.
        """
        longest = max(POLL_SECONDS if self.reason else RESCAN_SECONDS, SHARE * seconds_of_a_look)
        deadline = time.monotonic() + longest
        while not stopped.is_set() and time.monotonic() < deadline:
            identity = _identity(self._folder)
            if identity != self._identity:  # another folder of this name, of which no message would come
                self._identity = identity
                self._begin()
                break
            if self._changed.wait(_STEP_SECONDS):
                break
        self._changed.clear()

    def has_changed(self) -> bool:
        """Returns whether the folder has changed since the last call; always True if the system sends no messages."""
        changed = self._changed.is_set() or bool(self.reason)
        self._changed.clear()
        return changed

    def notice(self) -> None:
        """Ends a wait, or the next one."""
        self._changed.set()

    def stop(self) -> None:
        """Ends the thread."""
        self._ended.set()

    def _begin(self) -> None:
        self._ended.set()
        self._ended = threading.Event()
        try:
            import watchfiles  # noqa: F401
        except ImportError:
            self.reason = f"The package watchfiles is not installed: {self._polling()}"
            return
        self.reason = ""
        if self._identity is not None:
            threading.Thread(target=self._watch, args=(self._ended,), name="watch", daemon=True).start()

    def _watch(self, ended: threading.Event) -> None:
        try:
            for _ in messages(self._folder, ended):
                self._changed.set()
        except Exception as error:  # the system's limits have no exception class of their own
            if not ended.is_set() and _identity(self._folder) == self._identity:
                self.reason = f"The system does not report changes ({first_line(error)[:120]}): {self._polling()}"
                log.warning(self.reason)
                self._changed.set()

    def _polling(self) -> str:
        return f"{self._folder} is looked at every {POLL_SECONDS:.0f} seconds or more instead."


def messages(folder: Path, ended: threading.Event) -> Iterator[object]:
    """Yields whenever files below a folder have changed, until an event is set.

    Raises:
        Exception: the system cannot watch the folder, such as when its limit of watched folders is reached.
    """
    from watchfiles import watch

    return watch(
        folder,
        watch_filter=None,
        debounce=round(1000 * LONGEST_SECONDS),
        step=round(1000 * QUIET_SECONDS),
        stop_event=ended,
        rust_timeout=1000,
        raise_interrupt=False,
        ignore_permission_denied=True,
    )


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
