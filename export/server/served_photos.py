"""The photos of a served index, as the search page shows them."""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.photos.reader import PhotoError

from keras_retrieval.errors import ArgumentError

from ..contract.signatures import OK, REASONS
from ..index_contract.column_types import TYPES
from ..index_contract.contract import NeighbourIndex
from ..search_page.catalogue import Catalogue
from ..search_page.errors import NotReadyError
from ..search_page.source import Box, Status
from .core import ServingCore
from .errors import ServingError
from .limits import Deadline
from .photo_search import PhotoSearch, SearchingServable
from .servable import Run, Servable

CHECK_SECONDS = 1.0  # between two checks whether the index has changed
PAUSE = 10.0  # times the duration of reading the photos, until the next check
ATTEMPTS = 5  # to read the names and columns of an index that changes meanwhile


class ServedPhotos:
    """Implements `PhotoSource` with an index, and with the served network with which it was made.

    Args:
        search: index to search.
        core: request handling of the server.
        folder: folder of the indexed photos.
        seconds: time limit for describing a photo, in seconds.

    Attributes:
        folder: folder of the indexed photos.
    """

    def __init__(self, search: PhotoSearch, core: ServingCore, folder: Path, seconds: float) -> None:
        self.folder = folder
        self._search, self._core, self._seconds = search, core, seconds
        self._lock = threading.Lock()
        self._catalogue: Catalogue | None = None
        self._next_check = 0.0

    def index(self) -> NeighbourIndex:
        """Returns the index."""
        return self._search.index

    def catalogue(self) -> Catalogue:
        """Returns the photos of the index, read again within seconds after the index has changed.

        Raises:
            NotReadyError: the index cannot be read.
        """
        kept = self._catalogue
        if kept is not None and time.monotonic() < self._next_check:
            return kept
        if not self._lock.acquire(blocking=kept is None):
            assert kept is not None, "a thread that does not wait has a catalogue"
            return kept
        started = time.monotonic()
        try:
            return self._current()
        except (OSError, FolderError) as error:
            if kept is not None:
                return kept
            raise NotReadyError(f"The index cannot be read: {error}.") from error
        finally:
            ended = time.monotonic()
            self._next_check = ended + max(CHECK_SECONDS, PAUSE * (ended - started))
            self._lock.release()

    def describe(self, file: bytes, box: Box | None) -> np.ndarray:
        """Computes the descriptor of a photo with the served network; see `PhotoSource.describe`."""
        from tensorflow_serving.apis import model_pb2

        files = np.array([file], object)
        boxes = np.array([box or (0, 0, 0, 0)], np.float32)
        deadline = Deadline(self._seconds)

        def work(servable: Servable, run: Run) -> tuple[np.ndarray, np.ndarray]:
            assert isinstance(servable, SearchingServable), "only versions of the index's network are searched with"
            return servable.describe(files, boxes, run, deadline)

        try:
            spec = model_pb2.ModelSpec(name=self._search.model(self._core.models))
            with self._core.counted("predict", "REST", spec.name):
                rows, status = self._core.answer("Predict", spec, work)
        except ServingError as error:
            raise NotReadyError(error.message) from error
        if status[0] != OK:
            raise PhotoError("<bytes>", REASONS[int(status[0])])
        return np.asarray(rows[0])

    def status(self) -> Status:
        """Returns the number of photos, and which network they are searched with."""
        facts = self._search.index.facts
        model: Mapping[str, Any] = facts["model"]
        count, message = len(self.catalogue()), ""
        try:
            self._search.model(self._core.models)
        except ServingError as error:
            message = error.message
        return Status(
            state="failed" if message else "ready",
            done=count,
            total=count,
            photos=count,
            searchable=count,
            message=message,
            network=Path(model.get("path") or model["name"]).name,
            size=facts["size"],
        )

    def left_out(self) -> Mapping[str, str]:
        """Returns nothing, because an index contains described photos only."""
        return {}

    def _current(self) -> Catalogue:
        index = self._search.index
        version = index.version
        if self._catalogue is None or self._catalogue.version != version:
            self._catalogue = Catalogue(*_names_and_columns(index), version=version, types=index.facts.get(TYPES))
        return self._catalogue


def _names_and_columns(index: NeighbourIndex) -> tuple[list[str], dict[str, list[str]]]:
    for _ in range(ATTEMPTS):
        names = list(index.names)
        with suppress(ArgumentError):  # a photo was deleted meanwhile
            return names, index.columns(names)
    raise NotReadyError("The index changes faster than it can be read. Try again in a moment.")
