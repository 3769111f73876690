"""Fits the curves of a calibration by logistic regression (scikit-learn), and measures them on held-out places."""

from dataclasses import dataclass

import numpy as np

from ..index_contract.calibration import FEATURES, GLOBAL, VERIFIED, Curve
from ..index_contract.errors import CalibrationError
from .pairs import Pairs

FEWEST_PLACES, FEWEST_QUERIES, FEWEST_OF_EACH = 3, 20, 20
"""Fewest places with pairs of the same object, queries, and pairs of the same and of other objects of a calibration."""
SAFE_PLACES, SAFE_QUERIES = 8, 100
"""Below these numbers a warning says that the probabilities are uncertain."""
FOLDS = 5
PROMISES = (0.5, 0.9, 0.95, 0.99)
_MILD = 1.0  # scikit-learn's C


@dataclass(frozen=True)
class Promise:
    """The answers with at least some probability, on places that were held out.

    Attributes:
        probability: the probability.
        answers: their number.
        false: the number that show another object.
        low: lower end of the 95 % interval of the share of true ones (Wilson), as if answers were independent.
        found: share of all pairs of the same object that are among the answers.
    """

    probability: float
    answers: int
    false: int
    low: float
    found: float


@dataclass(frozen=True)
class Fitted:
    """A curve, and what it reaches on places that were held out.

    Attributes:
        curve: the curve, learned from all pairs.
        auc: area under the ROC curve of same and other objects, on held-out places.
        promises: for each of `PROMISES`.
    """

    curve: Curve
    auc: float
    promises: list[Promise]


def check_pairs(pairs: Pairs, *, validation_only: bool = False) -> None:
    """Checks that there are enough pairs.

    Args:
        pairs: the pairs.
        validation_only: whether the queries are photos that were set aside for validation.

    Raises:
        CalibrationError: there are not; the message gives the numbers.
    """
    places, queries, same, other = counts = _counts(pairs)
    if not _enough(counts):
        raise CalibrationError(
            f"the tuples give {places:,} objects, {queries:,} queries, {same:,} pairs of the same object and {other:,} "
            f"of others among the photos of the index; a calibration needs {FEWEST_PLACES} objects, {FEWEST_QUERIES} "
            f"queries and {FEWEST_OF_EACH} pairs of each kind: "
            + ("set more objects aside with `tuples --validation`" if validation_only else "give tuples of more photos")
        )


def _counts(pairs: Pairs) -> tuple[int, int, int, int]:
    """The numbers of places with pairs of the same object, of queries, and of pairs of the same and other objects."""
    places = len(np.unique(pairs.place[pairs.same]))
    return places, len(np.unique(pairs.query)), int(pairs.same.sum()), int((~pairs.same).sum())


def _enough(counts: tuple[int, int, int, int]) -> bool:
    needed = FEWEST_PLACES, FEWEST_QUERIES, FEWEST_OF_EACH, FEWEST_OF_EACH
    return all(have >= need for have, need in zip(counts, needed, strict=True))


def limit_of(pairs: Pairs) -> float:
    """Returns the largest probability that Q queries support, (Q + 1) / (Q + 2) by Laplace's rule of succession."""
    queries = len(np.unique(pairs.query))
    return (queries + 1) / (queries + 2)


def pair_weights(pairs: Pairs, without_match: float) -> np.ndarray:
    """Returns the weight of each pair, (P,), so that queries without a match have a share of all queries.

    Args:
        pairs: the pairs.
        without_match: share of the queries that will be asked of the index and have no match in it.
    """
    weights = np.where(pairs.without, without_match, 1 - without_match)
    return weights / weights.sum() * len(weights)


def fit_curves(pairs: Pairs, without_match: float, seed: int = 0) -> dict[str, Fitted]:
    """Fits the curve of descriptors and, if local features were compared, that of both.

    Args:
        pairs: pairs that `check_pairs` accepts.
        without_match: see `pair_weights`.
        seed: random seed of the folds.
    """
    weights = pair_weights(pairs, without_match)
    fitted = {GLOBAL: _fit(pairs, np.ones(len(weights), bool), weights, len(FEATURES[GLOBAL]), seed)}
    compared = np.isfinite(pairs.features[:, -1])
    if _enough(_counts(pairs.pick(compared))):
        fitted[VERIFIED] = _fit(pairs, compared, weights, len(FEATURES[VERIFIED]), seed)
    return fitted


def _fit(pairs: Pairs, kept: np.ndarray, weights: np.ndarray, features: int, seed: int) -> Fitted:
    """Fits a curve, and scales it by what it reaches on folds of places that were held out (Platt, 1999)."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    rows, same, weight = pairs.features[kept, :features], pairs.same[kept], weights[kept]
    place = pairs.place[kept]
    folds = min(FOLDS, len(np.unique(place)))
    held_out = np.full(len(rows), np.nan)
    for train, test in GroupKFold(folds, shuffle=True, random_state=seed).split(rows, same, place):
        if 0 < same[train].sum() < len(train):
            held_out[test] = _logits(_regression(rows[train], same[train], weight[train]), rows[test])
    found = np.isfinite(held_out)
    if not 0 < same[found].sum() < found.sum():
        raise CalibrationError(
            f"the pairs of the same object are of {len(np.unique(place[same]))} objects, which are too few for a "
            "cross-validation: give tuples of more objects"
        )
    slope = _regression(held_out[found, None], same[found], weight[found])
    plain = _regression(rows, same, weight)
    # Never steeper than held-out places support, and not flatter than a line through all of them.
    factor = slope.weights[0] if slope.weights[0] > 0 else 1.0
    curve = Curve(factor * plain.intercept + slope.intercept, tuple(factor * one for one in plain.weights))
    probabilities = slope(held_out[found, None])
    auc = roc_auc_score(same[found], held_out[found], sample_weight=weight[found])
    return Fitted(curve, float(auc), [_promise(one, probabilities, same[found]) for one in PROMISES])


def _regression(rows: np.ndarray, same: np.ndarray, weights: np.ndarray) -> Curve:
    """Fits a logistic regression of standardised features, without those whose weight would be negative."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    used, coefficients = np.ones(rows.shape[1], bool), np.zeros(rows.shape[1])
    intercept = 0.0
    while True:
        if not used.any():
            raise CalibrationError(
                "the descriptors of photos of the same object are not more alike than others: check that the tuples "
                "are of the photos that are indexed"
            )
        model = LogisticRegression(C=_MILD, max_iter=1000)
        model.fit(((rows - mean) / scale)[:, used], same, sample_weight=weights)
        coefficients[:] = 0
        coefficients[used], intercept = model.coef_[0], float(model.intercept_[0])
        if (coefficients >= 0).all():
            break
        used &= coefficients > 0
    weight = coefficients / scale
    return Curve(intercept - float(weight @ mean), tuple(weight.tolist()))


def _logits(curve: Curve, rows: np.ndarray) -> np.ndarray:
    return rows @ np.array(curve.weights) + curve.intercept


def _promise(probability: float, probabilities: np.ndarray, same: np.ndarray) -> Promise:
    chosen = probabilities >= probability
    answers, true = int(chosen.sum()), int(same[chosen].sum())
    return Promise(probability, answers, answers - true, wilson_low(true, answers), true / max(1, int(same.sum())))


def wilson_low(true: int, answers: int) -> float:
    """Returns the lower end of the 95 % interval of a share (Wilson, 1927); 0 without answers."""
    if not answers:
        return 0.0
    z, share = 1.96, true / answers
    centre = share + z * z / (2 * answers)
    spread = z * np.sqrt(share * (1 - share) / answers + z * z / (4 * answers * answers))
    return float(max(0.0, (centre - spread) / (1 + z * z / answers)))
