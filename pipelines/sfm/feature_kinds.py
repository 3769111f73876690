"""Which local features a COLMAP database has: those of COLMAP's SIFT, or those of a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError

from ..local_features.errors import LocalFeaturesError
from ..local_features.extractors import XFEAT, Extractor, check_extractor, extractor_identity
from .brought_matches import BROUGHT
from .colmap import Database
from .learned_features import LearnedDatabase, open_features

SIFT = "sift"
COUNTS = {True: 8192, False: 4096}
"""Default of the largest number of features of a photo: of SIFT, and of a network."""


def check_features(label: str, value: Any) -> None:
    """The kind of the option --features: sift, or what names an extractor.

    Raises:
        ArgumentError: it is a number.
        LocalFeaturesError: it is neither sift, xfeat nor a file.
        MissingExtraError: the package with XFeat's weights, or ONNX Runtime, is not installed.
    """
    if str(value).isdigit():
        raise ArgumentError(f"{label} names the kind of features, got {value}: their number is --feature-count {value}")
    if value not in (SIFT, XFEAT) and not Path(value).is_file():
        raise LocalFeaturesError(
            f"{label} must be {SIFT}, {XFEAT}, or a file of weights or an .onnx file that exists, got {value}"
        )
    if value != SIFT:
        check_extractor(label, value)


def settings_to_store(options: Mapping[str, Any], database: Path | None) -> dict[str, Any]:
    """Returns what a run stores in options.json: on what its features depend.

    Args:
        options: the values of the options --features, --feature-count and --size.
        database: the value of --database.

    Returns:
        The options, of an extractor also the SHA-256 of its file. "features" is `BROUGHT` with a database.

    Raises:
        MissingExtraError: XFeat's package is not installed.
    """
    if database is not None:
        return {**options, "features": BROUGHT}
    kind = options["features"]
    return dict(options) if kind == SIFT else {**options, "sha256": extractor_identity(kind)["sha256"]}


def open_database(path: Path, extraction: Mapping[str, Any], extractor: Extractor | None = None) -> Database:
    """Opens or creates a COLMAP database whose features are extracted and matched by the settings of a run.

    Args:
        path: the path of the file.
        extraction: the settings, see `extraction_settings`.
        extractor: the network, if it is loaded already; see `load_extractor`.

    Raises:
        ReconstructionError: the file exists and is damaged, or is not a COLMAP database.
        MissingExtraError: pycolmap is not installed.
    """
    kind = extraction_settings(extraction)["kind"]
    return Database(path) if kind == SIFT else LearnedDatabase(path, kind, extractor)


def load_extractor(extraction: Mapping[str, Any]) -> Extractor | None:
    """Loads the network of the settings of a run, for several databases; None for SIFT.

    Raises:
        LocalFeaturesError: the extractor cannot be loaded.
    """
    settings = extraction_settings(extraction)
    return None if settings["kind"] == SIFT else open_features(settings["kind"], settings)


def extraction_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the extraction of features.

    Args:
        stored: the options that `reconstruct` or `clean` stored in options.json. "features" is the number of SIFT
            features where there is no other kind.

    Returns:
        A dict of "kind", the value of --features; "features", the largest number of features of a photo; and "size".
    """
    if isinstance(stored["features"], str):
        return {"kind": stored["features"], "features": stored["feature_count"], "size": stored["size"]}
    return {"kind": SIFT, **stored}
