"""Learns a calibration from the photos of known objects in an index, and stores it."""

from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.command.colmap import require_colmap
from keras_retrieval.pipelines.local_features.matchers import MUTUAL, matcher_identity, open_matcher
from keras_retrieval.pipelines.training_tuples.data import Tuples
from keras_retrieval.pipelines.training_tuples.file import read_tuples

from keras_retrieval.errors import ArgumentError

from ..index_contract.calibration import VERIFIED, Calibration, file_name, network_of, write_calibration
from ..index_contract.contract import NeighbourIndex
from ..indexes.calibrated import extractor_of
from ..indexes.open_index import open_index, place_to_read
from ..indexes.verified_search import FeatureSource, local_features_if_any
from .fit import Fitted, check_pairs, fit_curves, limit_of
from .options import CalibrateOptions
from .pairs import Pairs, choose_queries, collect, label


@dataclass(frozen=True)
class Learned:
    """A calibration that was learned.

    Attributes:
        path: its file.
        calibration: the calibration.
        fitted: its curves, and what each reaches on objects that were held out.
        compared: whether local features were compared.
    """

    path: Path
    calibration: Calibration
    fitted: dict[str, Fitted]
    compared: bool


def learn(options: CalibrateOptions) -> Learned:
    """Learns a calibration and writes it.

    Raises:
        ArgumentError: the index has no local features for --matcher.
        LocalFeaturesError: the matcher is not for these features.
        CalibrationError: too few photos of the tuples are in the index, they are of too few objects, or the descriptors
            do not tell objects apart.
        TuplesError: TUPLES is not a file of tuples.
        FolderError, CollectionError: the index or its local features cannot be opened.
        RemoteError: the storage of an index at an address does not answer, or refuses.
        MissingExtraError: scikit-learn is not installed, or COLMAP for local features.
        OSError: the file cannot be written.
    """
    tuples = read_tuples(options.tuples)
    with closing(open_index(place_to_read(options.index))) as index:
        return _learn(options, tuples, index)


def _learn(options: CalibrateOptions, tuples: Tuples, index: NeighbourIndex) -> Learned:
    labels = label(tuples, index)
    local = _local_features(options)
    queries = choose_queries(labels, options.queries, options.seed, validation_only=options.validation_only)
    others = options.unlabelled == "others"
    matcher = None if local is None else open_matcher(options.matcher, local.facts)
    pairs = collect(index, labels, queries, options.candidates, local, matcher, unlabelled=others)
    check_pairs(pairs, validation_only=options.validation_only)
    fitted = fit_curves(pairs, options.without_match, options.seed)
    stored = int(index.vectors([]).shape[1])
    facts = _facts(options, pairs, fitted, len(index))
    curves = {name: one.curve for name, one in fitted.items()}
    made_with = None if local is None or VERIFIED not in curves else extractor_of(local.facts)
    identity = matcher_identity(options.matcher)
    calibration = Calibration(curves, limit_of(pairs), network_of(index.facts, stored), facts, made_with, identity)
    path = options.output or Path(options.index) / file_name(identity)
    write_calibration(path, calibration)
    return Learned(path, calibration, fitted, compared=local is not None)


def _local_features(options: CalibrateOptions) -> FeatureSource | None:
    if not options.verify:
        return None
    local = local_features_if_any(options.index, options.local)
    if local is not None:
        require_colmap()
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
        "validation_only": options.validation_only,
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
