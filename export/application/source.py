"""What the search page shows of a collection: `CollectionSource`, a `PhotoSource`."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError, RetrievalError

from ..collection.collection import Collection
from ..collection.generation import COLUMNS
from ..index_contract.column_types import NUMBER, TIME
from ..index_contract.contract import NeighbourIndex
from ..search_page.catalogue import Catalogue
from ..search_page.errors import NotReadyError
from ..search_page.probabilities import Judge
from ..search_page.source import Box, Status
from .background import Background

NETWORK_SECONDS = 20.0  # that a query waits for the network to be loaded
CATALOGUE_SHARE = 10  # while photos are described, a catalogue is made at most for one in ten seconds
FASTEST_SECONDS = 1.0
_TYPES = {"time": TIME, "latitude": NUMBER, "longitude": NUMBER, "bytes": NUMBER}


class CollectionSource:
    """A collection as the search page reads it.

    Args:
        collection: the collection.
        background: the work on it.

    Attributes:
        folder: the photo folder.
    """

    def __init__(self, collection: Collection, background: Background) -> None:
        self.folder: Path = collection.folder
        self._collection, self._background = collection, background
        self._lock = threading.Lock()
        self._made: Catalogue | None = None
        self._key: tuple[int, str] | None = None
        self._next_time = 0.0

    def index(self) -> NeighbourIndex | None:
        """Returns the index to search; None until the first photos are searchable."""
        return self._collection.opened_index

    def judge(self) -> Judge | None:
        """Returns what gives hits their probabilities; None while the index is not calibrated."""
        answers = self._collection.answers()
        return None if answers is None else Judge(answers)

    def catalogue(self) -> Catalogue:
        """Returns the photos that were found in the folder, also those that are not described yet."""
        key, made = self._state(), self._made
        if made is not None and not self._is_due(key):
            return made
        if not self._lock.acquire(blocking=made is None):
            assert made is not None
            return made  # another request makes the next one
        try:
            if self._made is None or self._is_due(key):
                started = time.monotonic()
                self._made, self._key = self._catalogue(key), key
                seconds = time.monotonic() - started
                self._next_time = started + max(FASTEST_SECONDS, CATALOGUE_SHARE * seconds)
            return self._made
        finally:
            self._lock.release()

    def describe(self, file: bytes, box: Box | None) -> np.ndarray:
        """Describes a photo file; waits a while if the network is still being loaded.

        Raises:
            PhotoError: the photo cannot be read, or the box is not a part of it.
            NotReadyError: the network is not loaded yet, or cannot be loaded.
        """
        if not self._collection.wait_for_network(NETWORK_SECONDS):
            problem = self._background.problem
            raise NotReadyError(
                problem
                or "The network is still being loaded: try again in a few seconds. Photos of the collection can "
                "be searched for already, by a click."
            )
        try:
            return self._collection.describe(file, box)
        except ArgumentError as error:
            raise NotReadyError(str(error)) from error

    def status(self) -> Status:
        """Returns the progress, without waiting for anything."""
        background, collection = self._background, self._collection
        work, index, network = background.work, collection.opened_index, collection.network
        messages = [background.problem, background.note, *collection.messages]
        described: dict[str, Any] = {} if work is None else {
            "step": max(1, work.step), "steps": work.steps, "label": work.label, "done": work.done,
            "total": work.total, "rate": work.rate, "seconds_left": work.seconds_left,
        }  # fmt: skip
        return Status(
            state="failed" if background.problem else "ready" if work is None else "working",
            photos=collection.count or (0 if index is None else len(index)),
            searchable=0 if index is None else len(index),
            left_out=collection.left_out_count,
            message=" ".join(map(_sentence, dict.fromkeys(filter(None, messages)))),
            network="" if network is None else network.label,
            size=collection.size,
            training=background.training,
            **described,
        )

    def left_out(self) -> Mapping[str, str]:
        """Returns the reason why each file of the folder that is no photo or has no descriptor was left out."""
        return self._collection.left_out

    def _is_due(self, key: tuple[int, str]) -> bool:
        """Whether a new catalogue is to be made: at once for other photos, now and then while they are described."""
        made = self._key
        if key == made:
            return False
        urgent = made is None or key[0] != made[0] or self._background.work is None
        return urgent or time.monotonic() >= self._next_time

    def _state(self) -> tuple[int, str]:
        index = self._collection.opened_index
        return self._collection.scans, "" if index is None else index.version

    def _catalogue(self, key: tuple[int, str]) -> Catalogue:
        indexed, columns = self._columns()
        rows = {name: row for row, name in enumerate(indexed)}
        known = self._collection.photos
        names = indexed if known is None else known
        texts = {
            column: [values[rows[name]] if name in rows else "" for name in names] for column, values in columns.items()
        }
        searchable = np.fromiter((name in rows for name in names), bool, len(names))
        return Catalogue(names, texts, searchable, "-".join(map(str, key)), _TYPES)

    def _columns(self) -> tuple[list[str], dict[str, list[str]]]:
        """The names and facts of the indexed photos; a photo may be deleted between the two reads, so they are read
        again then.
        """
        for _ in range(5):
            index = self._collection.opened_index
            if index is None:
                break
            try:
                names = list(index.names)
                return names, index.columns(names)
            except RetrievalError:
                continue
        return [], {column: [] for column in COLUMNS}


def _sentence(text: str) -> str:
    """Ends a message, such as that of an error, as a sentence, so that another one may follow it."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
