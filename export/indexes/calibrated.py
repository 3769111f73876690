"""Opens the calibration of an index by the options --calibration and --min-probability."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.local_features.matchers import MUTUAL, matcher_identity

from keras_retrieval.errors import RetrievalError

from ..folder_index.write_ahead_log import file_stamp
from ..index_contract.answers import Answers, open_answers
from ..index_contract.calibration import file_name
from ..index_contract.contract import DESCRIPTOR_FACTS, NeighbourIndex
from ..index_contract.errors import CalibrationError
from ..milvus_index.address import is_milvus
from .open_index import place_of

log = logging.getLogger("keras_retrieval")


def extractor_of(local: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the local features of a calibration and of an index must have in common.

    Args:
        local: how local features were made, `FeatureSource.facts`.
    """
    return {"sha256": local["extractor"]["sha256"], "size": local["size"], "features": local["features"]}


def open_calibration(
    index: NeighbourIndex,
    place: str | Path,
    given: Path | None,
    min_probability: float = 0.0,
    *,
    label: str = "--min-probability",
    local: Mapping[str, Any] | None = None,
    matcher: str = MUTUAL,
) -> Answers | None:
    """Opens the calibration of an index, if it has one.

    Args:
        index: the open index.
        place: its folder, its address, or that of a collection, which has no calibration of its own.
        given: the value of --calibration; None for the file in the folder.
        min_probability: the value of --min-probability. Above 0, a calibration is needed.
        label: the name of that option.
        local: how the local features were made that will be compared, `FeatureSource.facts`; None for none.
        matcher: the value of --matcher; each matcher has a calibration of its own.

    Returns:
        None without a calibration, or with one of another network, which is logged.

    Raises:
        CalibrationError: see `open_answers`.
    """
    identity = matcher_identity(matcher)
    return open_answers(
        index,
        str(place),
        _file(index, place, given, identity),
        min_probability,
        needed=given is not None,
        label=label,
        local=None if local is None else extractor_of(local),
        matcher=identity,
        again="" if matcher == MUTUAL else f" --matcher {matcher}",
    )


def _file(index: NeighbourIndex, place: str | Path, given: Path | None, matcher: Mapping[str, str]) -> Path | None:
    """The file of a calibration; None for a collection without a given one."""
    return given or (None if is_milvus(place) else Path(place_of(index, str(place))) / file_name(matcher))


class LiveCalibration:
    """The calibration of an index that is in use, which may be made or replaced meanwhile. Several threads may use it.

    Args:
        index: the open index.
        place: its folder, its address, or that of a collection.
        given: the value of --calibration; None for the file in the folder.
        min_probability: the value of --min-probability. Above 0, a calibration is needed.
        local: as for `open_calibration`.
        matcher: as for `open_calibration`.

    Raises:
        CalibrationError: see `open_answers`.
    """

    def __init__(
        self,
        index: NeighbourIndex,
        place: str | Path,
        given: Path | None,
        min_probability: float = 0.0,
        local: Mapping[str, Any] | None = None,
        matcher: str = MUTUAL,
    ) -> None:
        self._index, self._place, self._given, self._min_probability = index, place, given, min_probability
        self._local, self._matcher = local, matcher
        self._file = _file(index, place, given, matcher_identity(matcher))
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._answers = self._opened()

    def answers(self) -> Answers | None:
        """Returns the probabilities of neighbours by the calibration as it is now.

        A file that cannot be read, or that does not fit, leaves the calibration before it in use, and is logged once.
        So does one that is gone, unless the index is now one of another network.

        Returns:
            None without a calibration.

        Raises:
            CalibrationError: a calibration is needed, and the index was replaced by one that none fits.
        """
        stamp = self._stamp()
        if stamp != self._seen and self._lock.acquire(blocking=False):
            try:
                if stamp != self._seen:
                    self._follow(stamp)
            finally:
                self._lock.release()
        if self._answers is None and self._min_probability:
            raise CalibrationError(f"no calibration fits the index at {self._place} now: calibrate it again")
        return self._answers

    def _follow(self, stamp: tuple[Any, Any]) -> None:
        same_network = stamp[1] == self._seen[1]
        try:
            answers = self._opened()
        except CalibrationError as error:
            log.warning(f"the calibration is not taken over: {error}")
            answers = None
        except (OSError, RetrievalError):  # of the index, while it is replaced: the search reports it, the next tries
            return
        self._seen = stamp
        if answers is None and same_network:
            return
        if answers is not None:
            log.info(f"{self._place}: probabilities are by {self._file} as it is now")
        self._answers = answers

    def _opened(self) -> Answers | None:
        return open_calibration(
            self._index, self._place, self._given, self._min_probability, local=self._local, matcher=self._matcher
        )

    def _stamp(self) -> tuple[Any, Any]:
        """What differs when the file is another one, or the index one of another network."""
        facts = self._index.facts
        network = {key: facts.get(key) for key in (*DESCRIPTOR_FACTS, "dimensions")}
        return None if self._file is None else file_stamp(self._file), network
