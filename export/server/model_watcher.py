"""Watches the folder of a model for versions, and loads new versions before it unloads old ones."""

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..http.messages import shortened
from .errors import Code, ServingError, as_serving_error
from .servable import Servable
from .version_folders import fingerprint, select_versions, version_folders

logger = logging.getLogger(__name__)
LOADING, AVAILABLE, UNLOADING, END = 20, 30, 40, 50  # ModelVersionStatus.State


@dataclass
class Version:
    """The state of one version of a model.

    Attributes:
        fingerprint: names, sizes and times of the version's files when loading began; see
            `version_folders.fingerprint`.
        state: ModelVersionStatus.State: LOADING, AVAILABLE, UNLOADING or END (failed to load).
        servable: the loaded version while it is available; otherwise None.
        error: error with which the last try to load failed; None if it did not fail.
        tries: number of times that loading has failed.
        retry_at: value of time.monotonic() at which loading is tried again; None if it is not.
        closed: event that is set when the version has been unloaded and its last request has been answered.
    """

    fingerprint: tuple
    state: int = LOADING
    servable: Servable | None = None
    error: ServingError | None = None
    tries: int = 0
    retry_at: float | None = None
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def visible_state(self) -> int:
        """The state that clients see. UNLOADING becomes END when the version's last request has been answered."""
        return END if self.state == UNLOADING and self.closed.is_set() else self.state


class ModelWatcher:
    """Watches the folder of a model on a separate thread, and loads and unloads its versions.

    Args:
        name: name of the model.
        load: function that loads and warms up a version, from its folder, the model's name and the version number.
        poll_seconds: seconds between two scans of the folder; 0 to scan only once, a negative number not to scan.
        changed: function that is called after every scan.
        retries: number of times that the loading of a version is tried again after a failure.
        retry_seconds: seconds between a failure and the next try.

    Attributes:
        name: name of the model.
        poll_seconds: seconds between two scans.
        versions: state of every version since the start, by version number.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[Path, str, int], Servable],
        poll_seconds: float,
        changed: Callable[[], None] = lambda: None,
        retries: int = 0,
        retry_seconds: float = 60.0,
    ) -> None:
        self.name, self.poll_seconds = name, poll_seconds
        self._retries, self._retry_seconds = retries, max(retry_seconds, 0.0)
        self.versions: dict[int, Version] = {}
        self._load_version, self._changed = load, changed
        self._lock = threading.Lock()
        self._config: Any = None
        self._scanned, self._found, self._wake = threading.Event(), threading.Event(), threading.Event()
        self._problem = ""  # why the last scan found no version
        self._thread: threading.Thread | None = None

    def start(self, config: Any) -> None:
        """Starts to serve the versions that a ModelConfig selects, or serves another selection if already started.

        Args:
            config: ModelConfig with the model's base folder and version policy.
        """
        self._config = config
        self._scanned.clear()
        self._found.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name=f"watch-{self.name}", daemon=True)
            self._thread.start()
        self._wake.set()

    def wait_for_scan(self, seconds: float | None = None, found: bool = False) -> bool:
        """Waits until each version that a scan after `start` has selected is loaded, or has finally failed to load.

        Args:
            seconds: maximum time to wait in seconds; None for no limit.
            found: whether the scan must have selected a version.

        Returns:
            Whether such a scan is complete.
        """
        return (self._found if found else self._scanned).wait(seconds)

    def stop(self) -> None:
        """Stops watching, and unloads all versions. Each version is closed when its last request has been answered."""
        thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None:
            thread.join()
        for number in self.available():
            self._unload(number)

    def available(self) -> list[int]:
        """Returns the numbers of the available versions, newest first."""
        with self._lock:
            return self._available()

    def acquire(self, number: int | None) -> Servable:
        """Returns an available version.

        Args:
            number: version number; None for the newest available version.

        Returns:
            The version, with a reference that the caller must release (`Servable.release`).

        Raises:
            ServingError: NOT_FOUND if the version does not exist or is not available.
        """
        with self._lock:
            wanted = self._available()[:1] if number is None else [n for n in self._available() if n == number]
            if wanted and (servable := self.versions[wanted[0]].servable):
                servable.acquire()
                return servable
        raise not_found(self.name, number)

    def states(self) -> list[tuple[int, int, ServingError | None]]:
        """Returns the state of every version since the start, including unloaded versions, newest first.

        Returns:
            Version number, state (ModelVersionStatus.State) and loading error (or None) of each version.
        """
        with self._lock:
            versions = sorted(self.versions.items(), reverse=True)
            return [(number, version.visible_state, version.error) for number, version in versions]

    def failures(self) -> list[str]:
        """Returns one text per version that could not be loaded, in the form in which TensorFlow Serving names it."""
        return [
            f"{{{servable_id(self.name, number)} due to error: {error.code.name}: {error.message}}}"
            for number, _, error in self.states()
            if error
        ]

    def _available(self) -> list[int]:
        return sorted((n for n, version in self.versions.items() if version.state == AVAILABLE), reverse=True)

    def _watch(self) -> None:
        while self._thread is threading.current_thread():
            self._wake.clear()
            config = self._config
            if self.poll_seconds >= 0:
                wanted = self._scan(config)
                if config is self._config and self._next_retry() is None:
                    self._scanned.set()
                    if wanted:
                        self._found.set()
            self._changed()
            self._wake.wait(self._seconds_to_wait())

    def _seconds_to_wait(self) -> float | None:
        retry_at = self._next_retry()
        waits = [self.poll_seconds] if self.poll_seconds > 0 else []
        waits += [] if retry_at is None else [max(retry_at - time.monotonic(), 0.0)]
        return min(waits, default=None)

    def _next_retry(self) -> float | None:
        return min((v.retry_at for v in self.versions.values() if v.retry_at is not None), default=None)

    def _scan(self, config: Any) -> bool:
        """Loads selected versions and unloads others; returns whether any version is selected."""
        try:
            wanted = select_versions(version_folders(Path(config.base_path)), config.model_version_policy)
        except OSError as error:
            missing = f"Could not find base path {config.base_path} for servable {self.name}"
            self._warn(f"{missing}: {error}; loaded versions stay")
            return False
        self._warn("" if wanted else f"No versions of servable {self.name} found under base path {config.base_path}")
        with self._lock:
            for number, version in self.versions.items():
                if number not in wanted and version.retry_at is not None:
                    version.state, version.retry_at = END, None
        for number, path in wanted.items():
            if self._is_new(number, path):
                self._load(number, path)
        available = self.available()
        if not wanted or any(number in wanted for number in available):
            for number in available:
                if number not in wanted:
                    self._unload(number)
        return bool(wanted)

    def _warn(self, problem: str) -> None:
        """Logs why a scan found no version, unless the last scan had the same problem."""
        if problem and problem != self._problem:
            logger.warning("%s", problem)
        self._problem = problem

    def _is_new(self, number: int, path: Path) -> bool:
        version = self.versions.get(number)
        if version is None or version.state == UNLOADING:
            return True
        if version.retry_at is not None:
            return version.retry_at <= time.monotonic()
        return version.state == END and version.fingerprint != _fingerprint(path)

    def _load(self, number: int, path: Path) -> None:
        before = self.versions.get(number)
        tries = before.tries if before is not None and before.retry_at is not None else 0
        # computed before loading, so that the next scan notices files that are written during loading
        version = Version(fingerprint=_fingerprint(path), tries=tries)
        with self._lock:
            self.versions[number] = version
        logger.info("Loading servable version %s", servable_id(self.name, number))
        try:
            servable = self._load_version(path, self.name, number)
        except Exception as error:
            self._failed(number, version, error)
            return
        with self._lock:
            version.servable, version.closed, version.state = servable, servable.closed, AVAILABLE
        logger.info("Successfully loaded servable version %s", servable_id(self.name, number))

    def _failed(self, number: int, version: Version, error: Exception) -> None:
        failure = as_serving_error(error) or ServingError(Code.UNKNOWN, f"{type(error).__name__}: {error}")
        servable = servable_id(self.name, number)
        with self._lock:
            version.tries, version.error = version.tries + 1, failure
            if version.tries <= self._retries:
                version.retry_at = time.monotonic() + self._retry_seconds
            else:
                version.state = END
        if version.state == END:
            logger.error("Servable %s cannot be loaded: %s: %s", servable, failure.code.name, failure.message)
        else:
            after = f"{self._retry_seconds:g} s"
            logger.warning(
                "Loading servable: %s failed, retry %d after %s: %s", servable, version.tries, after, failure
            )

    def _unload(self, number: int) -> None:
        with self._lock:
            version = self.versions[number]
            version.state, servable, version.servable = UNLOADING, version.servable, None
        if servable is not None:
            servable.release()
        del servable
        gc.collect()  # the Python objects of a graph form reference cycles
        logger.info("Done unloading servable version %s", servable_id(self.name, number))


def servable_id(name: str, number: int) -> str:
    """Returns the text by which TensorFlow Serving's log and errors name a version, "{name: M version: V}".

    Args:
        name: name of the model.
        number: number of the version.
    """
    return f"{{name: {name} version: {number}}}"


def not_found(name: str, number: int | None) -> ServingError:
    """Makes the error NOT_FOUND for a model or for one of its versions.

    Args:
        name: name of the model.
        number: number of the version; None for the newest version.
    """
    wanted = f"Latest({shortened(name)})" if number is None else f"Specific({shortened(name)}, {number})"
    return ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")


def _fingerprint(path: Path) -> tuple:
    try:
        return fingerprint(path)
    except OSError:
        return ()
