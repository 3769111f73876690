"""Verifies the first photos of rankings by local features, for `evaluate --verify`."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..descriptors.folder import photo_names
from ..descriptors.options import ExtractOptions
from ..files.progress import progress
from ..local_features.extraction import LocalSettings, extract_local_features
from ..local_features.folder import SUBFOLDER, StoredFeatures, open_features
from ..local_features.matchers import MUTUAL, open_matcher
from ..local_features.verification import Match, Verifier
from ..local_features.verified_ranking import verified_order
from ..photos.reader import PhotoError
from .collection import Collection
from .errors import CollectionError


@dataclass(frozen=True)
class Verification:
    """How the first photos of each ranking are verified.

    Attributes:
        depth: their number.
        settings: how local features are extracted.
        matcher: how they are matched; see `matchers.open_matcher`.
    """

    depth: int
    settings: LocalSettings
    matcher: str = MUTUAL


def verify_rankings(
    collection: Collection, options: ExtractOptions, verification: Verification, indexes: np.ndarray, scores: np.ndarray
) -> dict[str, Any]:
    """Orders the first photos of each ranking in place by verification, see `verified_order`.

    Args:
        collection: the collection. The local features of its database are written below the folder of its descriptors.
        options: the options of extraction.
        verification: how many photos are verified, and with which features.
        indexes: (Q, k) numbers of photos in the order of `collection.database`, ranked for each query; overwritten.
        scores: (Q, k) their scores.

    Returns:
        Facts for results.json: "verify", "matcher", "local" (the settings and bytes a photo of the local features), and
        "milliseconds_of_verification", the time a query, without that of the query's own features.

    Raises:
        CollectionError: a query cannot be read.
        LocalFeaturesError: the extractor cannot be loaded, or finds nothing in all photos, or the matcher is not for
            its features.
    """
    settings = verification.settings
    folder = options.output / "database"
    facts = extract_local_features(
        options.photos, photo_names(folder), folder / SUBFOLDER, settings, replace=options.replace
    )
    stored = open_features(folder / SUBFOLDER)
    others = _of_distractors(collection, options, settings)
    extractor = settings.open()
    verifier, seconds = Verifier(matcher=open_matcher(verification.matcher, facts)), 0.0

    def read(place: str) -> Any:
        source, name = _source(collection, stored, others, int(place))
        return source.read(name) if source is not None and name in source else None

    depth = min(verification.depth, indexes.shape[1])
    with progress("verify", len(indexes)) as advance:
        for query, (row, score) in enumerate(zip(indexes, scores, strict=True)):
            path = collection.photos / collection.truth.queries[query]
            try:
                features = extractor.of_photo(path, crop=collection.boxes[query])
            except PhotoError as error:
                raise CollectionError(f"the query {path} cannot be read: {error.reason}") from error
            started = time.monotonic()
            first = [str(place) for place in row[:depth].tolist()]
            found: dict[str, Match] = verifier.verify_all(features, first, read)
            order = verified_order(score[:depth], [found[place].inliers if place in found else None for place in first])
            row[:depth] = row[:depth][order]
            seconds += time.monotonic() - started
            advance(1)
    return {
        "verify": verification.depth,
        "matcher": verification.matcher,
        "local": {**settings.facts(), "bytes_per_photo": facts["bytes_per_photo"]},
        "milliseconds_of_verification": round(1000 * seconds / len(indexes), 1),
    }


def _source(
    collection: Collection, stored: StoredFeatures, others: StoredFeatures | None, place: int
) -> tuple[StoredFeatures | None, str]:
    """The features and the name of a photo of the database, or of a distractor."""
    own = len(collection.numbers)
    if place < own:
        return stored, collection.truth.database[int(collection.numbers[place])]
    return others, collection.names[place - own]


def _of_distractors(collection: Collection, options: ExtractOptions, settings: LocalSettings) -> StoredFeatures | None:
    """The local features of the distractors: extracted from their photos, which may be described elsewhere."""
    if not collection.names:
        return None
    folder = options.output / "distractors-local"
    extract_local_features(collection.folder, collection.names, folder, settings, replace=options.replace)
    return open_features(folder)
