"""Finds the stacks of a collection in the background, so that no request waits for them."""

import logging
import threading
import time

import numpy as np

from keras_retrieval.errors import ArgumentError, RetrievalError

from ..index_contract.contract import NeighbourIndex
from .catalogue import Catalogue
from .grouping import SMALLEST, Groups, Neighbours, candidates, group, neighbour_count
from .source import PhotoSource
from .stacks import Stacks

MOST_PHOTOS = 100_000  # of a collection with stacks; their neighbours take minutes, and 60 MB
BLOCK = 128  # photos that are searched for at once
REST = 1.0  # seconds of rest per second of work, so that searches keep a processor
PAUSE = 10.0  # times the duration of the last grouping, until the next one
BUSY_PAUSE = 50.0  # the same while photos are being described, so that this is not slowed down
SHORTEST_PAUSE = 2.0  # seconds

log = logging.getLogger("keras_retrieval")


class StackFinder:
    """Finds the stacks of a collection in a thread of its own, again whenever the index has changed.

    Args:
        source: the collection.
    """

    def __init__(self, source: PhotoSource) -> None:
        self._source = source
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._grouped: tuple[str, list[str], Groups] | None = None  # version of the index, its names, their groups
        self._next = 0.0  # time of the next grouping
        self._aligned: tuple[Catalogue, object, Stacks] | None = None

    def stacks(self, catalogue: Catalogue) -> Stacks:
        """Returns the latest stacks; starts to find them if the index has changed.

        Args:
            catalogue: the photos. Those that were added since the stacks were found are not in any.
        """
        self._start_if_due()
        grouped, aligned = self._grouped, self._aligned
        if grouped is None:
            return Stacks.none(catalogue)
        if aligned is None or aligned[0] is not catalogue or aligned[1] is not grouped:
            aligned = catalogue, grouped, _align(catalogue, *grouped)
            self._aligned = aligned
        return aligned[2]

    def wait(self, seconds: float) -> None:
        """Waits until the stacks that are being found are there, at most for a number of seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def close(self) -> None:
        """Stops finding stacks."""
        self._closing.set()
        self.wait(10.0)

    def _start_if_due(self) -> None:
        if time.monotonic() < self._next or self._closing.is_set() or not self._lock.acquire(blocking=False):
            return
        try:
            if self._thread is None or not self._thread.is_alive():
                self._next = time.monotonic() + SHORTEST_PAUSE
                index = self._source.index()
                if index is not None and (self._grouped is None or self._grouped[0] != index.version):
                    self._thread = threading.Thread(target=self._find, args=(index,), name="stacks", daemon=True)
                    self._thread.start()
        except (OSError, RetrievalError) as error:
            log.warning("stacks of photos were not found: %s", error)
        finally:
            self._lock.release()

    def _find(self, index: NeighbourIndex) -> None:
        started = time.monotonic()
        try:
            version, names = index.version, list(index.names)
            if not SMALLEST <= len(names) <= MOST_PHOTOS:
                none = Groups(np.full(len(names), -1, np.int64), np.zeros(0, bool))
                self._grouped = version, names, none
                return
            neighbours = self._neighbours(index, names)
            if neighbours is not None:
                self._grouped = version, names, self._groups(index, names, neighbours)
        except ArgumentError:
            pass  # a photo was deleted meanwhile: the version differs, so that stacks are found again
        except (OSError, RetrievalError) as error:
            log.warning("stacks of photos were not found: %s", error)
        finally:
            pause = BUSY_PAUSE if self._source.status().state == "working" else PAUSE
            self._next = time.monotonic() + pause * (time.monotonic() - started)

    def _neighbours(self, index: NeighbourIndex, names: list[str]) -> Neighbours | None:
        """Searches for the neighbours of all photos; None if the page is closing."""
        count, k = len(names), neighbour_count(len(names))
        row_of = {name: row for row, name in enumerate(names)}
        ids, distances = np.full((count, k), -1, np.int64), np.full((count, k), np.inf, np.float32)
        norms = np.empty(count, np.float32)
        for start in range(0, count, BLOCK):
            began = time.monotonic()
            rows = np.asarray(index.vectors(names[start : start + BLOCK]), np.float32)
            norms[start : start + BLOCK] = np.linalg.norm(rows, axis=1)
            for row, hits in enumerate(index.search(rows, k + 1), start):
                found = [(row_of.get(name, -1), score) for name, score in zip(hits.names, hits.scores, strict=True)]
                others = [(other, score) for other, score in found if other not in (row, -1)][:k]
                ids[row, : len(others)] = [other for other, _ in others]
                distances[row, : len(others)] = [score for _, score in others]
            if self._closing.wait(REST * (time.monotonic() - began)):
                return None
        known = ids >= 0
        lengths = np.maximum(norms[:, None] * norms[np.maximum(ids, 0)], 1e-12)
        distances[known] = np.maximum(1 - distances[known] / lengths[known], 0)
        order = np.argsort(distances, axis=1, kind="stable")
        return Neighbours(np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1))

    def _groups(self, index: NeighbourIndex, names: list[str], neighbours: Neighbours) -> Groups:
        photos = candidates(neighbours)
        rows_of = np.full(len(names), -1, np.int64)
        rows_of[photos] = np.arange(len(photos))
        rows = np.array(index.vectors([names[photo] for photo in photos.tolist()]), np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return group(neighbours, rows, rows_of)


def _align(catalogue: Catalogue, version: str, names: list[str], groups: Groups) -> Stacks:
    number = np.full(len(catalogue), -1, np.int64)
    row_of = catalogue.row_of
    for name, found in zip(names, groups.number.tolist(), strict=True):
        if found >= 0 and (row := row_of.get(name)) is not None:
            number[row] = found
    return Stacks(number, groups.copies, version)
