"""How an open index folder follows the builds of another process: when it loads them, and whether that succeeded."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from keras_retrieval.errors import ArgumentError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two attempts to load a build
_GRACE_SHARE = 0.5  # of the time for which the old files stay, within which the new ones must be loaded


@dataclass(frozen=True)
class Following:
    """How an open index follows the changes of its folder by other processes.

    Several servers that read one folder are replicas. Loading a new build takes a core for seconds, so that they should
    not all do so at the same moment. Each waits for a random part of `within`, or with its number for its own part:
    replica 2 of 4 waits for a quarter of it.

    Attributes:
        within: maximum number of seconds to wait before a new build is loaded. The wait is at most half of the time for
            which the files of the old build stay.
        replica: number of this replica, from 1 to `replicas`; 0 for a random part.
        replicas: number of replicas; 0 if `replica` is 0.
        steadfast: whether an index whose folder can no longer be read goes on with what it has loaded, and tries again.
            Otherwise the next search raises the error if the log of changes cannot be read.

    Raises:
        ArgumentError: `within` is negative, or `replica` is not between 1 and `replicas`.
    """

    within: float = 0.0
    replica: int = 0
    replicas: int = 0
    steadfast: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.within < float("inf"):
            raise ArgumentError(
                f"the seconds within which a replica loads a build must be at least 0, got {self.within}"
            )
        if not (self.replica == self.replicas == 0 or 1 <= self.replica <= self.replicas):
            raise ArgumentError(f"the number of a replica must be from 1 to {self.replicas}, got {self.replica}")

    def wait(self, grace: float) -> float:
        """Returns the number of seconds to wait before a new build is loaded.

        Args:
            grace: number of seconds for which the files of the old build stay.
        """
        most = min(self.within, _GRACE_SHARE * grace)
        return most * ((self.replica - 1) / self.replicas if self.replica else random.random())


class Loader:
    """Loads new builds in a thread of its own, one at a time, and repeats what fails.

    Args:
        load: function that loads the newest build.
        failed: function that is called with the error of an attempt that failed.
    """

    def __init__(self, load: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        self._load, self._failed = load, failed
        self._thread: threading.Thread | None = None
        self._starting, self._wake = threading.Lock(), threading.Event()
        self._attempted = threading.Event()
        self._closing = False

    @property
    def running(self) -> bool:
        """Whether a build is to be loaded, is being loaded, or is tried again later."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, wait: float = 0.0) -> None:
        """Starts the thread, unless it runs already, and returns immediately.

        Args:
            wait: number of seconds to wait before the first attempt.
        """
        with self._starting:
            if self.running:
                return
            self._closing = False
            self._wake.clear()
            self._attempted.clear()
            self._thread = threading.Thread(target=self._run, args=(wait,), daemon=True)
            self._thread.start()

    def hurry(self) -> None:
        """Ends the wait before the first attempt, and waits until the attempt has been made."""
        thread = self._thread
        if thread is None or self._attempted.is_set():
            return
        self._wake.set()
        while thread.is_alive() and not self._attempted.wait(0.1):
            pass

    def close(self) -> None:
        """Waits until the newest build is loaded, or until an attempt has failed that was begun already."""
        thread = self._thread
        self._closing = True
        self._wake.set()
        if thread is not None:
            thread.join()

    def _run(self, wait: float) -> None:
        end = time.monotonic() + wait
        while not self._wake.is_set() and time.monotonic() < end:
            self._wake.wait(max(0.0, end - time.monotonic()))
        pause = FIRST_PAUSE
        while True:
            self._wake.clear()
            try:
                self._load()
                return
            except Exception as error:  # whatever it is: a thread that ends would never load a build again
                self._failed(error)
            finally:
                self._attempted.set()
            if self._closing:
                return
            self._wake.wait(pause)
            if self._closing:
                return
            pause = min(2 * pause, LONGEST_PAUSE)
