"""One model: watches its folder, loads new versions before old ones go, and hands the right one to a request."""

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import Code, ServingError, known
from .servable import Servable
from .version_folders import chosen, fingerprint, numbered

logger = logging.getLogger(__name__)
LOADING, AVAILABLE, UNLOADING, END = 20, 30, 40, 50  # ModelVersionStatus.State


@dataclass
class Version:
    """What is known of one version, served, failed or gone."""

    fingerprint: tuple
    state: int = LOADING
    servable: Servable | None = None
    error: ServingError | None = None
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def visible_state(self) -> int:
        """The state that a client is told: a version that unloads has ended when its last request has."""
        return END if self.state == UNLOADING and self.closed.is_set() else self.state


class ModelWatcher:
    """A model and its versions.

    Args:
        name: the model's name.
        load: loads and warms up a version.
        poll_seconds: between two looks at its folder; 0 to look once.
        changed: called after every look.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[Path, str, int], Servable],
        poll_seconds: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.poll_seconds = name, poll_seconds
        self.versions: dict[int, Version] = {}
        self._load_version, self._changed = load, changed
        self._lock = threading.Lock()
        self._config: Any = None
        self._looked, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, config: Any) -> None:
        """Serves what a ModelConfig says: a new one, or another policy or folder than so far."""
        self._config = config
        self._looked.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name=f"watch-{self.name}", daemon=True)
            self._thread.start()
        self._wake.set()

    def settled(self, seconds: float | None = None) -> bool:
        """Waits until the folder has been looked at since `start` and what it holds is loaded or has failed."""
        return self._looked.wait(seconds)

    def stop(self) -> None:
        """Watches no longer and unloads every version when its last request is answered."""
        thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None:
            thread.join()
        for number in self.available():
            self._unload(number)

    def available(self) -> list[int]:
        """Numbers of the versions that answer requests, newest first."""
        with self._lock:
            return self._available()

    def acquire(self, number: int | None) -> Servable:
        """The version of a number, or the newest; the caller releases it.

        Raises:
            ServingError: NOT_FOUND.
        """
        with self._lock:
            wanted = self._available()[:1] if number is None else [n for n in self._available() if n == number]
            if wanted and (servable := self.versions[wanted[0]].servable):
                servable.acquire()
                return servable
        raise not_found(self.name, number)

    def states(self) -> list[tuple[int, int, ServingError | None]]:
        """(number, state, error) of every version ever seen, newest first."""
        with self._lock:
            known_versions = sorted(self.versions.items(), reverse=True)
            return [(number, version.visible_state, version.error) for number, version in known_versions]

    def failures(self) -> list[str]:
        """What went wrong, "version 3: REASON", for those that could not be loaded."""
        return [f"version {number}: {error.message}" for number, _, error in self.states() if error]

    def _available(self) -> list[int]:
        return sorted((n for n, version in self.versions.items() if version.state == AVAILABLE), reverse=True)

    def _watch(self) -> None:
        while self._thread is threading.current_thread():
            self._wake.clear()
            config = self._config
            self._look(config)
            if config is self._config:
                self._looked.set()
            self._changed()
            self._wake.wait(self.poll_seconds or None)

    def _look(self, config: Any) -> None:
        try:
            wanted = chosen(numbered(Path(config.base_path)), config.model_version_policy)
        except OSError as error:
            logger.warning("model %s: its folder cannot be read, what is loaded stays: %s", self.name, error)
            return
        for number, path in wanted.items():
            if self._is_new(number, path):
                self._load(number, path)
        available = self.available()
        if not wanted or any(number in wanted for number in available):
            for number in available:
                if number not in wanted:
                    self._unload(number)

    def _is_new(self, number: int, path: Path) -> bool:
        version = self.versions.get(number)
        if version is None or version.state == UNLOADING:
            return True
        return version.state == END and version.fingerprint != _fingerprint(path)

    def _load(self, number: int, path: Path) -> None:
        # Taken before loading: what is written meanwhile is new to the next look.
        version = Version(fingerprint=_fingerprint(path))
        with self._lock:
            self.versions[number] = version
        started = time.monotonic()
        try:
            servable = self._load_version(path, self.name, number)
        except Exception as error:
            version.error = known(error) or ServingError(Code.UNKNOWN, f"{type(error).__name__}: {error}")
            version.state = END
            logger.error("model %s: version %d cannot be loaded: %s", self.name, number, version.error.message)
            return
        with self._lock:
            version.servable, version.closed, version.state = servable, servable.closed, AVAILABLE
        logger.info("model %s: version %d loaded in %.1f s", self.name, number, time.monotonic() - started)

    def _unload(self, number: int) -> None:
        with self._lock:
            version = self.versions[number]
            version.state, servable, version.servable = UNLOADING, version.servable, None
        if servable is not None:
            servable.release()
        del servable
        gc.collect()  # the Python side of a graph is full of circles
        logger.info("model %s: version %d unloaded", self.name, number)


def not_found(name: str, number: int | None) -> ServingError:
    """NOT_FOUND for a model, or for one version of it."""
    wanted = f"Latest({name})" if number is None else f"Specific({name}, {number})"
    return ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")


def _fingerprint(path: Path) -> tuple:
    try:
        return fingerprint(path)
    except OSError:
        return ()
