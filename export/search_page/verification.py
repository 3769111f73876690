"""Verifies the hits of a search of the page, and describes the matches for the page, which draws them."""

from collections.abc import Sequence
from typing import Any, Protocol

from keras_retrieval.pipelines.local_features.features import LocalFeatures
from keras_retrieval.pipelines.local_features.verification import Match
from keras_retrieval.pipelines.photos.reader import PhotoError

from ..index_contract.contract import Hits
from .source import Box

MOST_LINES = 60  # pairs of matching points that are sent for a hit; the page draws a line for each
QUERIES = 4  # queries with which the hits are compared


class HitVerifier(Protocol):
    """Verifies hits by local features, as `export.indexes.verified_search.VerifiedSearch` does.

    Attributes:
        depth: the number of hits of a search that are verified.
    """

    depth: int

    def describe(self, query: bytes, box: Box | None = None) -> LocalFeatures:
        """Finds the local features of a photo, or of a part of it; raises PhotoError if it cannot be read."""
        ...

    def verify_any(self, queries: Sequence[LocalFeatures], hits: Hits) -> tuple[Hits, list[tuple[int, Match] | None]]:
        """Verifies the first hits with several queries and orders them; gives the best match of each, and its query."""
        ...


class VerifiedPhotos:
    """The local features of the queries of a search.

    Args:
        verifier: verifies hits.
    """

    def __init__(self, verifier: HitVerifier) -> None:
        self._verifier = verifier
        self._queries: list[LocalFeatures] = []
        self._numbers: list[int] = []

    @property
    def depth(self) -> int:
        """The number of hits that are verified; 0 while no query has been added."""
        return self._verifier.depth if self._queries else 0

    def add(self, number: int, file: bytes, box: Box | None) -> None:
        """Finds the features of a query of the search; the fifth and later ones, and unreadable ones, are left out."""
        if len(self._queries) == QUERIES:
            return
        try:
            self._queries.append(self._verifier.describe(file, box))
        except PhotoError:
            return
        self._numbers.append(number)

    def verify(self, hits: Hits) -> tuple[Hits, list[dict[str, Any]]]:
        """Verifies and orders hits.

        Returns:
            The hits, and for each what the page is sent: {} for a hit that was not verified, else "match" with the
            "inliers" and "matches", the number of the "query" among those of the search, and "points" (x and y in the
            query, x and y in the hit, in pixels of the upright photos), at most 60 of them, with the boxes "query_box"
            and "box".
        """
        if not self._queries:
            return hits, [{} for _ in hits.names]
        hits, matches = self._verifier.verify_any(self._queries, hits)
        return hits, [{} if match is None else {"match": self._facts(*match)} for match in matches]

    def _facts(self, query: int, match: Match) -> dict[str, Any]:
        step = max(1, -(-match.inliers // MOST_LINES))
        pairs = zip(match.query_points[::step].tolist(), match.points[::step].tolist(), strict=True)
        return {
            "inliers": match.inliers,
            "matches": match.matches,
            "query": self._numbers[query],
            "points": [[round(number, 1) for number in (*one, *other)] for one, other in pairs],
            "query_box": match.query_box,
            "box": match.box,
        }
