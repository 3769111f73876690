"""Tells which neighbours of a query show its object, by the calibration of an index."""

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_retrieval.errors import ArgumentError
from keras_retrieval.ranking.likely_matches import SAME, nearness, scale_neighbour

from .calibration import MUTUAL, Calibration, Compared, check_fits, check_local, read_calibration
from .contract import Hits, NeighbourIndex
from .errors import CalibrationError

log = logging.getLogger("keras_retrieval")


_Key = tuple[str, tuple[float, ...]]
"""A photo, and the box of its best crop."""


class Scales:
    """The usual distances around photos: that of a photo to its neighbour k; see `ranking.likely_matches`.

    Those of the photos of the index are kept until the index changes. Several threads may use it.

    Args:
        index: an open index.
    """

    def __init__(self, index: NeighbourIndex) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._version, self._known = "", dict[_Key, float]()

    def of_queries(self, rows: np.ndarray, own: Sequence[str | None]) -> np.ndarray:
        """Returns the scales of queries, (Q,).

        Args:
            rows: descriptors of the queries, (Q, D) or (Q, S).
            own: the name of each query in the index, which does not count; None for a query that is not in it.
        """
        k = scale_neighbour(len(self._index))
        found = self._index.search(rows, k + 1) if len(rows) else []
        return np.array([_scale(hits, name, k) for hits, name in zip(found, own, strict=True)], np.float64)

    def of_photos(self, hits: Hits) -> np.ndarray:
        """Returns the scales of photos of the index, (n,); with crops that of the best crop of each."""
        version = self._index.version
        with self._lock:
            if version != self._version:
                self._version, self._known = version, {}
            known = self._known
        keys = _keys(hits)
        missing = [place for place, key in enumerate(keys) if key not in known]
        if missing:
            some = hits.pick(missing)
            scales = self.of_queries(self._rows(some), some.names)
            known.update(zip([keys[place] for place in missing], scales.tolist(), strict=True))
        return np.array([known[key] for key in keys], np.float64)

    def _rows(self, hits: Hits) -> np.ndarray:
        """The stored descriptors of photos, with crops those of their best crops."""
        if hits.boxes is None:
            return self._index.vectors(hits.names)
        rows, crops = self._index.crops(hits.names)
        pairs = zip(hits.boxes, crops.starts.tolist(), crops.counts.tolist(), strict=True)
        places = [
            start + int(np.abs(crops.boxes[start : start + count] - box).sum(axis=1).argmin())
            for box, start, count in pairs
        ]
        return rows[places]


class Evidence(NamedTuple):
    """What descriptors say of the n neighbours of a query.

    Attributes:
        similarities: cosine similarities, (n,) float64.
        nearness: see `keras_retrieval.ranking.likely_matches.nearness`, (n,).
    """

    similarities: np.ndarray
    nearness: np.ndarray


class Answers:
    """The probability that the neighbours of a query show its object. Several threads may use it.

    Args:
        index: an open index.
        calibration: its calibration.

    Attributes:
        calibration: the calibration.
    """

    def __init__(self, index: NeighbourIndex, calibration: Calibration) -> None:
        self._index, self.calibration = index, calibration
        self._scales = Scales(index)

    def probabilities(
        self, row: np.ndarray, hits: Hits, compared: Sequence[Compared | None] | None = None, own: str | None = None
    ) -> np.ndarray:
        """Returns the probability that each neighbour shows the object of the query, (n,) float64.

        Args:
            row: descriptor of the query, (D,) or (S,).
            hits: neighbours of the query, by any ranking.
            compared: what the comparison of local features counts for each neighbour; None for those that were not
                compared.
            own: name of the query in the index; None if it is not in it.
        """
        return self.judge(self.evidence(row, hits, own), compared)

    def evidence(self, row: np.ndarray, hits: Hits, own: str | None = None) -> Evidence:
        """Returns what descriptors say of each neighbour, for `judge`. The arguments are those of `probabilities`.

        Photos that were deleted from the index since the search are least similar.
        """
        try:
            return self._evidence(row, hits, own)
        except ArgumentError:
            present = frozenset(self._index.names)
            kept = [place for place, name in enumerate(hits.names) if name in present]
            if len(kept) == len(hits.names):
                raise
        found, some = Evidence(*np.full((2, len(hits.names)), -1.0)), self.evidence(row, hits.pick(kept), own)
        for values, of_some in zip(found, some, strict=True):
            values[kept] = of_some
        return found

    def _evidence(self, row: np.ndarray, hits: Hits, own: str | None) -> Evidence:
        if not hits.names:
            return Evidence(np.zeros(0), np.zeros(0))
        scale = self._scales.of_queries(row[None], [own])
        similarities = self._similarities(row, hits)
        return Evidence(similarities, nearness(similarities, scale, self._scales.of_photos(hits)))

    def judge(self, evidence: Evidence, compared: Sequence[Compared | None] | None = None) -> np.ndarray:
        """Returns the probability of each neighbour, (n,) float64, by what is known of it; see `probabilities`."""
        if not len(evidence.similarities):
            return np.zeros(0)
        return self.calibration.probabilities(evidence.similarities, evidence.nearness, compared)

    def _similarities(self, row: np.ndarray, hits: Hits) -> np.ndarray:
        if hits.boxes is not None:  # of the best crop; only plain rankings have crops
            return hits.scores.astype(np.float64)
        return (self._index.vectors(hits.names) @ self._index.to_stored(row[None])[0]).astype(np.float64)


def best_probabilities(
    answers: Answers, hits: Hits, rows: Sequence[np.ndarray], own: Sequence[str | None]
) -> list[float]:
    """Returns the probability that each of n hits shows the object of at least one of several photos.

    Args:
        answers: the calibrated index.
        hits: the hits.
        rows: descriptors of the photos, each (D,) or (S,).
        own: the name of each photo in the index; None for one that is not in it.
    """
    found = [answers.probabilities(row, hits, own=name) for row, name in zip(rows, own, strict=True)]
    best: list[float] = np.max(found, axis=0).tolist()
    return best


def open_answers(
    index: NeighbourIndex,
    place: str,
    path: Path | None,
    min_probability: float = 0.0,
    *,
    needed: bool = False,
    label: str = "--min-probability",
    local: Mapping[str, Any] | None = None,
    matcher: Mapping[str, str] = MUTUAL,
    again: str = "",
) -> Answers | None:
    """Opens the calibration of an index, if it has one.

    Args:
        index: an open index.
        place: the folder or address of the index, for messages.
        path: the file of the calibration, which may not exist; None for none, as of a Milvus collection.
        min_probability: the value of --min-probability. Above 0, a calibration is needed.
        needed: whether a calibration is needed anyway, such as one that the user named.
        label: the name of the option.
        local: how the local features that will be compared were made, as `Calibration.local` says it; None for none.
        matcher: the identity of their matcher.
        again: further options of the step `calibrate` that are needed, for messages, such as " --matcher lighterglue".

    Returns:
        None without a calibration, or with one of another network, which is logged.

    Raises:
        CalibrationError: a calibration is needed, and there is none, it is damaged, it is of another network, or it
            cannot promise this probability.
    """
    needed = needed or min_probability > 0
    if path is None or not path.is_file():
        if needed:
            raise CalibrationError(no_calibration(place, path, again))
        return None
    try:
        calibration = read_calibration(path)
        check_fits(calibration, index.facts, int(index.vectors([]).shape[1]), str(path))
        if local is not None:
            check_local(calibration, local, str(path), matcher)
    except CalibrationError as error:
        if needed:
            raise
        log.warning(f"no probabilities are given: {error}")
        return None
    calibration.check_promise(min_probability, place, label)
    if message := calibration.outgrown(len(index)):
        log.warning(message)
    return Answers(index, calibration)


def no_calibration(place: str, path: Path | None, again: str = "") -> str:
    """The message for an index without the calibration that is needed, which `again` says how to make."""
    missing = f"{place} is not calibrated{' for' if again else ''}{again}: learn its probabilities with"
    command = f"`keras-retrieval calibrate {place} TUPLES{again}"
    if path is None:
        return f"{missing} {command} --output FILE`, and name the file with --calibration"
    return f"{missing} {command}`"


def _keys(hits: Hits) -> list[_Key]:
    boxes: list[list[float]] = [[]] * len(hits.names) if hits.boxes is None else hits.boxes.tolist()
    return [(name, tuple(box)) for name, box in zip(hits.names, boxes, strict=True)]


def _scale(hits: Hits, own: str | None, k: int) -> float:
    """The distance to the neighbour k of hits, of which one may be the query's own photo."""
    first = bool(len(hits.scores)) and hits.scores[0] > 1 - SAME
    place = hits.names.index(own) if own is not None and own in hits.names else 0 if first else None
    scores = hits.scores if place is None else np.delete(hits.scores, place)
    return 1 - float(scores[min(k, len(scores)) - 1]) if len(scores) else 0.0
