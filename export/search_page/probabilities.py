"""The probability that hits show an object of a search of the page, by the calibration of the index."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..index_contract.answers import Answers
from ..index_contract.calibration import Counts
from ..index_contract.contract import Hits
from ..index_contract.errors import CalibrationError
from .errors import BadRequestError

Judging: TypeAlias = Callable[[], "Judge | None"]
"""Function that returns what judges hits now: None for an index without a calibration.

It raises CalibrationError if a calibration is needed and none fits the index any more.
"""


def no_judge() -> None:
    """The `Judging` of an index that is never calibrated."""


@dataclass(frozen=True)
class Judge:
    """Gives the probabilities of hits.

    Attributes:
        answers: the calibrated index.
        min_probability: what a hit must have at least where a search does not say.
    """

    answers: Answers
    min_probability: float = 0.0

    def least(self, asked: float | None) -> float:
        """Returns the least probability of a hit of a search.

        Args:
            asked: the field min_probability of the search; None if it has none.

        Raises:
            BadRequestError: the calibration cannot promise it.
        """
        if asked is None:
            return self.min_probability
        try:
            self.answers.calibration.check_promise(asked, "the index", "min_probability")
        except CalibrationError as error:
            raise BadRequestError(f"{error}.") from None
        return asked

    def probabilities(
        self,
        hits: Hits,
        rows: np.ndarray,
        own: Sequence[str | None],
        numbers: Sequence[int | None],
        facts: Sequence[Mapping[str, Any]],
    ) -> np.ndarray:
        """Returns the probability that each hit shows the object of at least one of the photos of a search, (n,).

        Args:
            hits: the hits.
            rows: stored descriptors of the photos that are searched with or liked, (Q, S).
            own: the name of each of them in the index; None for a box, or a photo that is not in it.
            numbers: the number of each among the queries; None for a liked photo.
            facts: of each hit "match" as `VerifiedPhotos.verify` gives it, whose counts are those with one query.
        """
        best = np.zeros(len(hits.names))
        for row, name, number in zip(rows, own, numbers, strict=True):
            found = [one.get("match", {}) for one in facts]
            compared = [
                Counts(one["inliers"], one["matches"]) if one.get("query", -1) == number else None for one in found
            ]
            best = np.maximum(best, self.answers.probabilities(row, hits, compared, name))
        return best


def least_without_calibration(asked: float | None) -> None:
    """Checks that a search of an index without a calibration does not ask for a probability.

    Raises:
        BadRequestError: it does.
    """
    if asked:
        raise BadRequestError("min_probability needs a calibrated index: `keras-retrieval calibrate` calibrates it.")
