"""Whether a server should get requests: its models are loaded, and its index is loaded and can be searched."""

import logging
import re
import threading
from collections.abc import Callable, Mapping

from ..index_contract.contract import IndexState
from .errors import ServingError
from .metrics import INDEX_BUILD, INDEX_FAILURES, INDEX_LOADED, INDEX_LOADS, INDEX_OUTDATED, INDEX_PHOTOS, READY
from .model_registry import ModelRegistry
from .photo_search import PhotoSearch

logger = logging.getLogger(__name__)
SECONDS = 2.0  # between two looks at the index, which also notice its changes while nobody searches


class Readiness:
    """Tells whether a server is ready, and follows the index of the server.

    Args:
        models: the served models.
        search: the index; None for a server without one.
        changed: function that is called when the server becomes ready or ceases to be.
        seconds: seconds between two looks at the index.
    """

    def __init__(
        self,
        models: ModelRegistry,
        search: PhotoSearch | None,
        changed: Callable[[], None] = lambda: None,
        seconds: float = SECONDS,
    ) -> None:
        self._models, self._search, self._changed, self._seconds = models, search, changed, seconds
        self._state: IndexState | None = None
        self._silent, self._stopping = "", threading.Event()
        self._thread: threading.Thread | None = None
        if search is not None:
            self._look()
            self._thread = threading.Thread(target=self._follow, daemon=True, name="index")
            self._thread.start()

    def reason(self) -> str:
        """Returns why the server should get no requests; "" if it should. Names no files, since everybody may read it.

        A server whose index has changed, but cannot be read again, is ready, because it searches what it has loaded.
        """
        if self._stopping.is_set():
            return "the server is stopping"
        if not self._models.ready():
            return "a model has no version that is loaded"
        if self._search is None:
            return ""
        if self._silent:
            return "the index does not answer"
        try:
            self._search.model(self._models)
        except ServingError:
            return "no model is the network that the index was made with"
        return ""

    def metrics(self) -> Mapping[str, float]:
        """Returns the present values of the metrics of readiness and of the index, by name."""
        values: dict[str, float] = {READY: not self.reason()}
        if (state := self._state) is not None:
            number = re.search(r"[0-9]{1,15}$", state.build)
            values |= {
                INDEX_BUILD: float(number[0]) if number else 0,
                INDEX_PHOTOS: state.photos,
                INDEX_OUTDATED: bool(state.problem),
                INDEX_LOADED: state.loaded_at,
                INDEX_LOADS: state.loads,
                INDEX_FAILURES: state.failures,
            }
        return values

    def stopping(self) -> None:
        """Makes the server unready, for its end."""
        self._stopping.set()

    def close(self) -> None:
        """Ends the thread that follows the index."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        assert self._search is not None
        try:
            state = self._search.index.state
        except Exception as error:  # of a database, which may raise what it likes
            if not self._silent:
                logger.warning("the index does not answer: %s", error)
            self._silent = str(error) or type(error).__name__
            return
        if self._state is not None and state.build != self._state.build:
            logger.info("the index is now %s with %d photos", state.build, state.photos)
        self._state, self._silent = state, ""

    def _follow(self) -> None:
        before = self.reason()
        while not self._stopping.wait(self._seconds):
            self._look()
            now = self.reason()
            if now != before and not self._stopping.is_set():
                logger.info("ready" if not now else f"not ready: {now}")
                self._changed()
            before = now
