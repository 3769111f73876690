"""Calibrations: the probability that two photos show the same object, as a function of what is known of the pair.

The step `calibrate` learns a calibration and stores it as INDEX/calibration.json. The probability is a logistic
function of the cosine similarity of the two descriptors, of their nearness (the similarity relative to the usual
distances around both photos, see `keras_retrieval.ranking.likely_matches`) and, where local features were compared, of
the numbers of matched features and of inliers among them. It is evaluated with numpy alone.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from keras_retrieval.pipelines.files.durable import write_file
from keras_retrieval.pipelines.files.remote import remote_folder

from keras_retrieval.errors import class_and_text

from .contract import DESCRIPTOR_FACTS
from .errors import CalibrationError

FILE = "calibration.json"
"""Name of the file in an index folder, of local features that are matched as mutual nearest neighbours."""
MUTUAL = {"name": "mutual"}
"""The identity of that matcher; those of other matchers have "sha256", see `local_features.matchers`."""
_KIND, _VERSION = "calibration", 1
GLOBAL, VERIFIED = "global", "verified"
"""The two curves: without and with the comparison of local features."""
FEATURES = {GLOBAL: ("similarity", "nearness"), VERIFIED: ("similarity", "nearness", "inliers", "matches")}
"""The inputs of each curve, in order; inliers as log(1 + inliers), and matches, of which they are a part, likewise."""
_LATER = ("matches",)  # inputs that curves of earlier versions lack
MIN_PROBABILITY_HELP = (
    "Give only photos that show the object of the query with at least this probability, such as 0.9, by the "
    "calibration of the index (`keras-retrieval calibrate`); 0 for all."
)
CALIBRATION_HELP = (
    "File that `keras-retrieval calibrate` wrote, for an index without a calibration of its own, such as a Milvus "
    "collection."
)
_GROWTH = 10.0  # a collection that has grown more than this since its calibration has harder non-matches
_LARGEST = 60.0  # beyond, the logistic function is 0 or 1


class Compared(Protocol):
    """What the comparison of the local features of two photos counts, such as `local_features.verification.Match`."""

    @property
    def inliers(self) -> int:
        """The number of matches that agree on one view."""
        ...

    @property
    def matches(self) -> int:
        """The number of matches."""
        ...


class Counts(NamedTuple):
    """The counts of a comparison, as `Compared`."""

    inliers: int
    matches: int


@dataclass(frozen=True)
class Curve:
    """A logistic function of some features of a pair.

    Attributes:
        intercept: its constant.
        weights: the weight of each feature, all of them 0 or more, so that more evidence is never less probable.
    """

    intercept: float
    weights: tuple[float, ...]

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns the probabilities (n,) of features (n, F)."""
        logits = features @ np.array(self.weights, np.float64) + self.intercept
        return 1 / (1 + np.exp(-np.clip(logits, -_LARGEST, _LARGEST)))


@dataclass(frozen=True)
class Calibration:
    """The probability that two photos show the same object.

    Attributes:
        curves: the functions, by `GLOBAL` and `VERIFIED`; there may be no verified one.
        limit: the largest probability that the number of queries supports; larger ones are reduced to it.
        network: the settings of the descriptors (`DESCRIPTOR_FACTS`), and the number of their stored dimensions.
        facts: how it was made and what was measured, for people.
        local: of a verified curve, the "sha256" of the extractor of the local features, their "size" and "features".
        matcher: of a verified curve, the identity of the matcher of the local features.
    """

    curves: Mapping[str, Curve]
    limit: float
    network: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    local: Mapping[str, Any] | None = None
    matcher: Mapping[str, str] = field(default_factory=lambda: dict(MUTUAL))

    def probabilities(
        self, similarities: np.ndarray, nearness: np.ndarray, compared: Sequence[Compared | None] | None = None
    ) -> np.ndarray:
        """Returns the probability that each of n pairs of photos shows the same object.

        Args:
            similarities: cosine similarities, (n,).
            nearness: see `keras_retrieval.ranking.likely_matches.nearness`, (n,).
            compared: what the comparison of local features counts; None for pairs, or all, that were not compared.

        Returns:
            Probabilities, (n,) float64, at most `limit`.
        """
        columns = pair_features(similarities, nearness, compared)
        result = self.curves[GLOBAL](columns[:, : len(FEATURES[GLOBAL])])
        known = np.isfinite(columns[:, -1])
        if VERIFIED in self.curves and known.any():
            result[known] = self.curves[VERIFIED](columns[known])
        return np.minimum(result, self.limit)

    def check_promise(self, probability: float, place: str, label: str = "--min-probability") -> None:
        """Checks that a probability can be promised.

        Args:
            probability: value of the option.
            place: the index or file, for the message.
            label: name of the option.

        Raises:
            CalibrationError: it is above `limit`.
        """
        if probability > self.limit:
            raise CalibrationError(
                f"{label} {probability:g}: the calibration of {place} was learned from "
                f"{self.facts.get('queries', 0):,} queries, which support at most "
                f"{math.floor(1000 * self.limit) / 1000:g}: give a smaller probability, or calibrate with more photos"
            )

    def outgrown(self, photos: int) -> str:
        """Says that an index has grown since, so that its non-matches are more alike; "" if it has not."""
        before = int(self.facts.get("photos", 0))
        if not before or photos <= _GROWTH * before:
            return ""
        return f"the index was calibrated when it had {before:,} photos, and has {photos:,} now: calibrate it again"


def pair_features(
    similarities: np.ndarray, nearness: np.ndarray, compared: Sequence[Compared | None] | None = None
) -> np.ndarray:
    """Returns the features of n pairs, (n, 4) float64, in the order of `FEATURES`; NaN for what was not compared."""
    counts = np.full((len(similarities), 2), np.nan)
    for row, one in enumerate(compared or ()):
        if one is not None:
            counts[row] = np.log1p([one.inliers, one.matches])
    return np.column_stack([np.asarray(similarities, np.float64), np.clip(nearness, -1.0, 1.0), counts])


def network_of(facts: Mapping[str, Any], stored: int) -> dict[str, Any]:
    """Returns what a calibration and an index must have in common.

    Args:
        facts: metadata of an index, `NeighbourIndex.facts`.
        stored: number of dimensions of a stored descriptor.
    """
    network = {key: facts.get(key) or None for key in DESCRIPTOR_FACTS if key not in ("model", "bfloat16")}
    model = {key: facts["model"][key] for key in ("sha256", "name") if facts["model"].get(key)}
    return {**network, "model": model, "dimensions": facts["dimensions"], "stored": stored}


def file_name(matcher: Mapping[str, str]) -> str:
    """Returns the name of the file in an index folder of the calibration for a matcher of local features.

    Args:
        matcher: the identity of the matcher; each has a file of its own.
    """
    return f"calibration-{matcher['sha256'][:12]}.json" if "sha256" in matcher else FILE


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Writes a calibration to a file, which may be at an address. It is replaced at once.

    Raises:
        OSError: the file cannot be written.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    document = {
        "kind": _KIND,
        "version": _VERSION,
        "curves": {
            name: {"intercept": curve.intercept, "weights": dict(zip(FEATURES[name], curve.weights, strict=True))}
            for name, curve in calibration.curves.items()
        },
        "limit": calibration.limit,
        "network": calibration.network,
        "local": calibration.local,
        "matcher": dict(calibration.matcher),
        **calibration.facts,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if folder := remote_folder(path.parent):
        folder.write(path.name, text.encode())
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text)


def read_calibration(path: Path) -> Calibration:
    """Reads a calibration from a file.

    Raises:
        CalibrationError: the file does not exist, is damaged, or is not a calibration.
    """
    if not path.is_file():
        raise CalibrationError(f"{path} does not exist: `keras-retrieval calibrate INDEX TUPLES` makes it")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or document.get("kind") != _KIND:
            raise CalibrationError(f"{path} is not a calibration: `keras-retrieval calibrate` makes one")
        if document["version"] > _VERSION:
            raise CalibrationError(
                f"{path} has version {document['version']} of its layout, and this code reads up to {_VERSION}: update "
                "with pip install -U keras-retrieval, or calibrate again"
            )
        curves = {name: _curve(name, document["curves"][name]) for name in FEATURES if name in document["curves"]}
        limit, network = float(document["limit"]), dict(document["network"])
        local = None if document.get("local") is None else dict(document["local"])
        matcher = dict(document.get("matcher", MUTUAL))
    except CalibrationError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise CalibrationError(
            f"{path} is damaged ({class_and_text(error)}): run `keras-retrieval calibrate` again"
        ) from error
    sound = all(np.isfinite([curve.intercept, *curve.weights]).all() for curve in curves.values())
    sound &= all(min(curve.weights) >= 0 for curve in curves.values())
    counts = [document.get(key, 0) for key in ("photos", "queries")]
    sound &= all(type(one) is str for one in matcher.values()) and "name" in matcher
    sound &= all(type(count) is int and 0 <= count < 2**53 for count in counts)
    sound &= type(document["version"]) is int and document["version"] > 0
    if GLOBAL not in curves or not sound or not 0 < limit < 1:
        raise CalibrationError(f"{path} is damaged (its numbers): run `keras-retrieval calibrate` again")
    known = ("kind", "version", "curves", "limit", "network", "local", "matcher")
    facts = {key: value for key, value in document.items() if key not in known}
    return Calibration(curves, limit, network, facts, local, matcher)


def _curve(name: str, entry: Mapping[str, Any]) -> Curve:
    weights = dict.fromkeys(_LATER, 0.0) | entry["weights"]
    return Curve(float(entry["intercept"]), tuple(float(weights[one]) for one in FEATURES[name]))


def probability_text(probability: float) -> str:
    """Returns a probability in percent, rounded down, so that 99 % is not said of less."""
    percent = math.floor(1000 * float(probability) + 1e-9) / 10
    return f"{percent:.1f} %" if percent >= 99 or percent < 1 else f"{math.floor(percent)} %"


def check_fits(calibration: Calibration, facts: Mapping[str, Any], stored: int, place: str) -> None:
    """Checks that a calibration is one of the descriptors of an index.

    Args:
        calibration: the calibration.
        facts: metadata of the index.
        stored: number of dimensions of a stored descriptor of the index.
        place: the file of the calibration, for the message.

    Raises:
        CalibrationError: it was made for descriptors of another network, or with other settings.
    """
    ours, theirs = calibration.network, network_of(facts, stored)
    differ = [key for key in theirs if ours.get(key) != json.loads(json.dumps(theirs[key]))]
    if differ:
        other = "network" if "model" in differ else differ[0]
        raise CalibrationError(
            f"{place} was learned for descriptors of another {other} than those of the index: run `keras-retrieval "
            "calibrate` again"
        )


def check_local(
    calibration: Calibration, local: Mapping[str, Any], place: str, matcher: Mapping[str, str] = MUTUAL
) -> None:
    """Checks that the inliers of a calibration are those of the local features of an index and of a matcher.

    Args:
        calibration: the calibration.
        local: how the local features were made, as `Calibration.local` says it.
        place: the file of the calibration, for the message.
        matcher: the identity of the matcher.

    Raises:
        CalibrationError: its curve of inliers was learned with local features of another extractor or size, or with
            another matcher.
    """
    if VERIFIED in calibration.curves and dict(calibration.matcher) != dict(matcher):
        other = "another version of " if calibration.matcher["name"] == matcher["name"] else ""
        raise CalibrationError(
            f"{place} was learned for points that are matched by {other}{calibration.matcher['name']}, and not by "
            f"{matcher['name']}: run `keras-retrieval calibrate` again with the same --matcher"
        )
    if VERIFIED in calibration.curves and calibration.local is not None and dict(calibration.local) != dict(local):
        raise CalibrationError(
            f"{place} was learned for local features of another extractor, size or number than those of the index: run "
            "`keras-retrieval calibrate` again"
        )
