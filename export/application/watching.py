"""Notices that files of a folder have changed, by messages of the operating system or, without them, by looking.

The messages say only that something has changed: what, the intake finds out. Network drives send no messages, and some
systems limit the number of watched folders, so that the folder is looked at regularly in any case.
"""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("keras_retrieval")

QUIET_SECONDS = 0.4  # without another message, after which a change counts as complete
LONGEST_SECONDS = 2.0  # after which a change is reported although more messages come
RESCAN_SECONDS = 60.0  # after which the folder is looked at without a message
POLL_SECONDS = 3.0  # the same where the system sends no messages
SHARE = 20  # a look may take this fraction of the time between two: one in 20 s if it takes 1 s


class FolderWatch:
    """Watches a folder in a thread of its own.

    Args:
        folder: the folder, with all its sub-folders.

    Attributes:
        changed: set when something has changed; the reader clears it.
        reason: why the system sends no messages, a sentence; "" if it does.
    """

    def __init__(self, folder: Path) -> None:
        self.changed, self.reason = threading.Event(), ""
        self._folder, self._stopped = folder, threading.Event()
        self._thread: threading.Thread | None = None
        self._started()

    @property
    def polls(self) -> bool:
        """Whether the folder has to be looked at often, because the system sends no messages."""
        return bool(self.reason)

    def wait(self, seconds_of_a_look: float, stopped: threading.Event) -> None:
        """Waits until the folder has changed or should be looked at.

        Args:
            seconds_of_a_look: the time that the last look took.
            stopped: an event that ends the wait.
        """
        longest = max(POLL_SECONDS if self.polls else RESCAN_SECONDS, SHARE * seconds_of_a_look)
        deadline = time.monotonic() + longest
        while time.monotonic() < deadline and not stopped.is_set():
            if self.changed.wait(min(0.25, longest)):
                break
        self.changed.clear()

    def restart(self) -> None:
        """Watches the folder again, after it was gone."""
        if self._thread is None or not self._thread.is_alive():
            self.reason = ""
            self._started()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()

    def _started(self) -> None:
        try:
            import watchfiles  # noqa: F401
        except ImportError:
            self.reason = f"The package watchfiles is not installed: {self._polling()}"
            return
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        try:
            for _ in self._messages():
                self.changed.set()
        except Exception as error:  # the system's limits have no exception class of their own
            self.reason = f"The system does not report changes ({_first_line(error)}): {self._polling()}"
            log.warning(self.reason)

    def _messages(self) -> Iterator[object]:
        from watchfiles import watch

        return watch(
            self._folder,
            watch_filter=None,
            debounce=int(1000 * LONGEST_SECONDS),
            step=int(1000 * QUIET_SECONDS),
            stop_event=self._stopped,
            rust_timeout=1000,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )

    def _polling(self) -> str:
        return f"{self._folder} is looked at every {POLL_SECONDS:.0f} seconds or more instead."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
