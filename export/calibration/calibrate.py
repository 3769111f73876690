"""Learns how probable a match is: `keras-retrieval calibrate INDEX TUPLES`."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.command.kinds import require_package
from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.local_features.matchers import MUTUAL, matcher_identity, open_matcher
from keras_retrieval.pipelines.training_tuples.file import read_tuples

from keras_retrieval.errors import ArgumentError

from ..index_contract.calibration import VERIFIED, Calibration, file_name, network_of, write_calibration
from ..indexes.calibrated import extractor_of
from ..indexes.open_index import open_index
from ..indexes.verified_search import FeatureSource, local_features_if_any
from .fit import SAFE_PLACES, SAFE_QUERIES, Fitted, check_pairs, fit_curves, limit_of
from .options import CalibrateOptions
from .pairs import Pairs, choose_queries, collect, label


@takes(CalibrateOptions)
def calibrate(options: CalibrateOptions) -> Calibration:
    """Learns from photos of known objects the probability that two photos show the same object.

    Photos of TUPLES that are in the index are its queries. Each is ranked twice: among all other photos, and among
    those of other objects only, as if the index had no photo of its object, so that the probabilities hold for
    queries without a match, too. The first candidates of both rankings are pairs of the same or of other objects. A
    logistic regression learns the probability from their similarity, from the nearness relative to the usual distances
    around both photos, and, if the index has local features, from the numbers of matches and inliers. It is scaled by
    five-fold cross-validation over objects, whose figures are printed.

    `search`, `serve`, `app` and `groups` find the calibration in the index and give probabilities; with
    --min-probability, `search` answers "no match" where nothing is probable enough. The calibration stays when the
    index is changed by `update`. An index that is made with another network needs a new one.

    Returns:
        The calibration.

    Raises:
        ArgumentError: an option is out of range, or the index has no local features for --matcher.
        LocalFeaturesError: the matcher is not for these features.
        CalibrationError: too few photos of the tuples are in the index, they are of too few objects, or the descriptors
            do not tell objects apart.
        TuplesError: TUPLES is not a file of tuples.
        FolderError, CollectionError: the index or its local features cannot be opened.
        MissingExtraError: scikit-learn is not installed, or COLMAP for local features.
        OSError: the file cannot be written.
    """
    tuples = read_tuples(options.tuples)
    index = open_index(options.index)
    labels = label(tuples, index)
    local = _local_features(options)
    queries = choose_queries(labels, options.queries, options.seed)
    others = options.unlabelled == "others"
    matcher = None if local is None else open_matcher(options.matcher, local.facts)
    pairs = collect(index, labels, queries, options.candidates, local, matcher, unlabelled=others)
    check_pairs(pairs)
    fitted = fit_curves(pairs, options.without_match, options.seed)
    stored = int(index.vectors([]).shape[1])
    facts = _facts(options, pairs, fitted, len(index))
    curves = {name: one.curve for name, one in fitted.items()}
    made_with = None if local is None or VERIFIED not in curves else extractor_of(local.facts)
    identity = matcher_identity(options.matcher)
    calibration = Calibration(curves, limit_of(pairs), network_of(index.facts, stored), facts, made_with, identity)
    path = options.output or Path(options.index) / file_name(identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_calibration(path, calibration)
    _print(path, calibration, fitted, compared=local is not None)
    return calibration


def _local_features(options: CalibrateOptions) -> FeatureSource | None:
    if not options.verify:
        return None
    local = local_features_if_any(options.index, options.local)
    if local is not None:
        require_package("pycolmap", "COLMAP", "sfm")
    elif options.matcher != MUTUAL:
        raise ArgumentError(
            f"--matcher matches local features, which {options.index} does not have: extract them with --local xfeat "
            "and index again, or name their folder of descriptors with --local"
        )
    return local


def _facts(options: CalibrateOptions, pairs: Pairs, fitted: dict[str, Fitted], photos: int) -> dict[str, Any]:
    return {
        "photos": photos,
        "queries": len(np.unique(pairs.query)),
        "objects": len(np.unique(pairs.place)),
        "pairs": {"same": int(pairs.same.sum()), "other": int((~pairs.same).sum())},
        "candidates": options.candidates,
        "without_match": options.without_match,
        "tuples": str(options.tuples.resolve()),
        "date": date.today().isoformat(),
        "held_out": {
            name: {
                "auc": round(one.auc, 4),
                "promises": [
                    {"probability": part.probability, "answers": part.answers, "false": part.false}
                    for part in one.promises
                ],
            }
            for name, one in fitted.items()
        },
    }


def _print(path: Path, calibration: Calibration, fitted: dict[str, Fitted], *, compared: bool) -> None:
    facts = calibration.facts
    print(
        f"{facts['queries']:,} queries of {facts['objects']:,} objects: {facts['pairs']['same']:,} pairs of the same "
        f"object, {facts['pairs']['other']:,} of others"
    )
    for name, one in fitted.items():
        kind = "with local features" if name == VERIFIED else "descriptors only"
        print(f"{kind}: AUC {one.auc:.3f} of held-out objects")
        for part in one.promises:
            if not part.answers or part.probability > calibration.limit:
                reason = "no answers" if part.probability <= calibration.limit else "not with so few queries"
                print(f"  at least {part.probability:.0%}: {reason}")
                continue
            print(
                f"  at least {part.probability:.0%}: {part.answers:,} answers, {part.false:,} false "
                f"({part.low:.1%} or more are true, by the 95 % interval), {part.found:.0%} of the matches found"
            )
    if compared and VERIFIED not in fitted:
        print("with local features: not learned, because too few of these pairs have local features")
    if facts["objects"] < SAFE_PLACES or facts["queries"] < SAFE_QUERIES:
        print(
            f"These are few: with less than {SAFE_PLACES} objects or {SAFE_QUERIES} queries, other objects may differ "
            "from what was learned."
        )
    print(f"largest probability that can be promised: {calibration.limit:.3f}")
    print(path)
