"""Learns how probable a match is: `keras-retrieval calibrate INDEX TUPLES`."""

from pathlib import Path

from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.files.remote import named

from ..index_contract.calibration import VERIFIED, Calibration
from .fit import SAFE_PLACES, SAFE_QUERIES, Fitted
from .learning import learn
from .options import CalibrateOptions


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
        RemoteError: the storage of an index at an address does not answer, or refuses.
        MissingExtraError: scikit-learn is not installed, or COLMAP for local features.
        OSError: the file cannot be written.
    """
    learned = learn(options)
    _print(learned.path, learned.calibration, learned.fitted, compared=learned.compared)
    return learned.calibration


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
    print(named(path))
