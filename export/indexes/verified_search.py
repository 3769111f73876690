"""Verifies the first neighbours of queries by their local features, and puts verified photos first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.local_features.extractors import Extractor, reopen_extractor
from keras_retrieval.pipelines.local_features.features import Box, LocalFeatures
from keras_retrieval.pipelines.local_features.folder import StoredFeatures, local_features_of, open_features
from keras_retrieval.pipelines.local_features.matchers import MUTUAL, open_matcher
from keras_retrieval.pipelines.local_features.verification import Match, Verifier
from keras_retrieval.pipelines.local_features.verified_ranking import verified_order

from keras_retrieval.errors import ArgumentError

from ..index_contract.contract import Hits
from ..milvus_index.address import is_milvus
from .local_store import LocalStore, has_local_features

VERIFY_HELP = (
    "Number of photos at the beginning of each ranking that are verified: their local features (`extract --local`) are "
    "matched with the query's, and photos that agree with it on a view come first; 0 for none."
)
LOCAL_FEATURES_HELP = "Folder of descriptors with local features (`extract --local`), for an index without its own."
LOCAL_HELP = (
    "With --verify: folder of descriptors with local features (`extract --local`), for an index without its own."
)


def check_matching(matcher: str, verify: int) -> None:
    """Checks that --matcher is combined with --verify.

    Raises:
        ArgumentError: it is not.
    """
    if matcher != MUTUAL and not verify:
        raise ArgumentError("--matcher is for --verify: give --verify 100, or leave --matcher out")


class FeatureSource(Protocol):
    """The local features of the photos of an index."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the features were made; see `StoredFeatures.facts`."""
        ...

    def read(self, name: str) -> LocalFeatures | None:
        """Returns the features of a photo; None for a photo without features."""
        ...


def open_local_features(index: str | Path, local: Path | None) -> FeatureSource:
    """Opens the local features of an index.

    Args:
        index: folder of the index, its address, or that of a Milvus collection.
        local: a folder of descriptors with local features; None for the features in the index folder, of which a copy
            is made if it is at an address.

    Raises:
        FolderError: there are no local features, or they are damaged.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    if local is not None:
        folder = local_features_of(local)
        if folder is None:
            raise FolderError(f"{local} has no local features: extract them with --local xfeat")
        return _Stored(open_features(folder))
    if is_milvus(index):
        raise FolderError(f"{index} has no local features: name the folder of descriptors that has them with --local")
    return LocalStore(Path(index))


def local_features_if_any(index: str | Path, local: Path | None) -> FeatureSource | None:
    """Opens the local features of an index as `open_local_features` does; returns None for an index that has none.

    Raises:
        FolderError: the local features are damaged, or the folder `local` has none.
    """
    if local is None and (is_milvus(index) or not has_local_features(Path(index))):
        return None
    return open_local_features(index, local)


@dataclass(frozen=True)
class _Stored:
    stored: StoredFeatures

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.stored.facts

    def read(self, name: str) -> LocalFeatures | None:
        return self.stored.read(name) if name in self.stored else None


class VerifiedSearch:
    """Verifies rankings with the local features of an index. Several threads may use it.

    Args:
        features: the local features of the photos of the index.
        depth: number of photos at the beginning of a ranking that are verified.
        matcher: how features are matched; see `matchers.open_matcher`.

    Attributes:
        depth: number of photos that are verified.

    Raises:
        LocalFeaturesError: the extractor with which the features were made has changed or no longer exists, or the
            matcher is not for its features.
        LocalFeatureError: the matcher's file does not contain weights of LighterGlue.
        MissingExtraError: pycolmap, XFeat's package or ONNX Runtime is not installed.
    """

    def __init__(self, features: FeatureSource, depth: int, matcher: str = MUTUAL) -> None:
        self._features, self.depth = features, depth
        self._verifier = Verifier(matcher=open_matcher(matcher, features.facts))
        self._extractor: Extractor = reopen_extractor(dict(features.facts))

    def describe(self, query: Path | bytes, box: Box | None = None) -> LocalFeatures:
        """Finds the local features of a query photo, or only those inside a box.

        Args:
            query: path of the photo, or the content of its file.
            box: left, top, right and bottom in pixels of the upright photo; None for the whole photo.

        Raises:
            PhotoError: the photo cannot be read.
        """
        return self._extractor.of_photo(query, crop=box)

    def verify(self, query: LocalFeatures, hits: Hits) -> tuple[Hits, list[Match | None]]:
        """Verifies the first `depth` neighbours of a query and orders them; see `verified_order`.

        Photos without local features, and photos whose features cannot be read, keep their place after verified ones.

        Returns:
            The neighbours in their order after verification, and the verified matches of each with the query; None for
            those that were not verified.
        """
        ordered, matches = self.verify_any([query], hits)
        return ordered, [None if match is None else match[1] for match in matches]

    def verify_any(self, queries: Sequence[LocalFeatures], hits: Hits) -> tuple[Hits, list[tuple[int, Match] | None]]:
        """Verifies the first `depth` neighbours with several queries, of which the one with most inliers counts.

        Returns:
            The neighbours in their order after verification, and for each the number of the query and its verified
            matches with that; None for those that were not verified.
        """
        first = hits.names[: self.depth]
        best: dict[str, tuple[int, Match]] = {}
        for number, query in enumerate(queries):
            for name, match in self._verifier.verify_all(query, first, self._features.read).items():
                if name not in best or match.inliers > best[name][1].inliers:
                    best[name] = number, match
        inliers = [best[name][1].inliers if name in best else None for name in first]
        order = verified_order(hits.scores[: self.depth], inliers).tolist()
        places = [*order, *range(len(first), len(hits.names))]
        return hits.pick(places), [best.get(hits.names[place]) if place < len(first) else None for place in places]
