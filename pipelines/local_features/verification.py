"""Verifies that photos show the same object: matches their local features, and estimates the transformation.

The features of two photos are matched if each is the other's nearest neighbour and their cosine similarity is above a
threshold, or by a network (see `matchers`). COLMAP's LO-RANSAC estimates a homography and a fundamental matrix from the
matches. A match is an inlier if the transformation maps one point near the other. A homography maps the points of a
plane, and few matches agree on one by chance. A fundamental matrix maps the points of any rigid scene, but a point only
to a line, so that many matches of photos of other objects agree on one by chance. It counts only if it has most of the
matches.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_retrieval.errors import first_line, printable
from keras_retrieval.local_features.matching import mutual_nearest

from ..files.machine import cores
from .colmap import load_colmap
from .features import Box, LocalFeatures
from .matchers import Matcher

HOMOGRAPHY, FUNDAMENTAL = "homography", "fundamental matrix"
_FEWEST = {HOMOGRAPHY: 5, FUNDAMENTAL: 30}
"""Inliers from which a transformation is considered; it is not estimated from fewer matches."""
_SHARE = {HOMOGRAPHY: 0.0, FUNDAMENTAL: 2 / 3}
"""Share of the matches from which a transformation is considered."""

log = logging.getLogger("keras_retrieval")


@dataclass(frozen=True)
class VerificationSettings:
    """How pairs of photos are matched and verified.

    Attributes:
        smallest_cosine: smallest cosine similarity of two matched features.
        error: largest distance in pixels between a point and where the transformation maps the other, in a photo whose
            longest side is 512 pixels; in proportion to the side for other photos.
        trials: maximum number of trials of RANSAC.
        seed: random seed of RANSAC.
    """

    smallest_cosine: float = 0.75
    error: float = 4.0
    trials: int = 500
    seed: int = 0


@dataclass(frozen=True)
class Match:
    """The verified matches of a query photo with another photo.

    Attributes:
        model: the transformation with most inliers, HOMOGRAPHY or FUNDAMENTAL; "" if there is none.
        query_points: the n inliers in the query photo, x and y in pixels of the upright photo, (n, 2) float32.
        points: the same in the other photo, (n, 2) float32.
        matches: the number of matches of which these are the inliers.
    """

    model: str = ""
    query_points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    matches: int = 0

    @property
    def inliers(self) -> int:
        """The number of inliers."""
        return len(self.points)

    @property
    def query_box(self) -> Box | None:
        """The box of the inliers in the query photo: left, top, right and bottom in pixels; None without inliers."""
        return _box(self.query_points)

    @property
    def box(self) -> Box | None:
        """The box of the inliers in the other photo."""
        return _box(self.points)


class Verifier:
    """Matches and verifies pairs of photos, several at a time.

    Args:
        settings: how pairs are matched and verified.
        matcher: matches features; None for mutual nearest neighbours.

    Raises:
        MissingExtraError: pycolmap is not installed.
    """

    def __init__(self, settings: VerificationSettings = VerificationSettings(), matcher: Matcher | None = None) -> None:
        self._settings, self._colmap = settings, load_colmap()
        self._match = matcher or self._mutual_nearest
        self._space = threading.local()

    def verify(self, query: LocalFeatures, other: LocalFeatures) -> Match:
        """Verifies one pair of photos."""
        rows, columns = self._match(query, other)
        points = query.keypoints[rows].astype(np.float64), other.keypoints[columns].astype(np.float64)
        best, mask = "", np.zeros(len(rows), bool)
        for model, found in self._estimates(points, _unit(other)):
            fewest = max(_FEWEST[model], _SHARE[model] * len(found), int(mask.sum()) + 1)
            if found.sum() >= fewest:
                best, mask = model, found
        return Match(best, query.keypoints[rows[mask]], other.keypoints[columns[mask]], len(rows))

    def verify_all(
        self, query: LocalFeatures, names: Sequence[str], read: Callable[[str], LocalFeatures | None]
    ) -> dict[str, Match]:
        """Verifies a query photo against photos. Photos whose features cannot be read are left out, which is logged.

        Args:
            query: the features of the query photo.
            names: names of the photos.
            read: function from a name to the features of the photo; None for a photo without features.

        Returns:
            Maps the name of each photo that has features to its match, in the order of `names`.
        """

        def one(name: str) -> Match | str | None:
            try:
                features = read(name)
                return None if features is None else self.verify(query, features)
            except Exception as error:
                return first_line(error)

        with ThreadPoolExecutor(cores()) as pool:
            found = dict(zip(names, pool.map(one, names), strict=True))
        failed = {name: reason for name, reason in found.items() if isinstance(reason, str)}
        for name, reason in list(failed.items())[:1]:
            others = f" (and {len(failed) - 1:,} more)" if len(failed) > 1 else ""
            log.warning(f"{printable(name)} is not verified: {reason}{others}")
        return {name: match for name, match in found.items() if isinstance(match, Match)}

    def _mutual_nearest(self, query: LocalFeatures, other: LocalFeatures) -> tuple[np.ndarray, np.ndarray]:
        return mutual_nearest(
            query.descriptors, other.descriptors, self._settings.smallest_cosine, self._scratch(len(query) * len(other))
        )

    def _estimates(self, points: tuple[np.ndarray, np.ndarray], unit: float) -> Any:
        """Yields the transformations that RANSAC finds, with the mask of their inliers."""
        options = self._colmap.RANSACOptions()
        options.max_error = self._settings.error * unit
        options.max_num_trials, options.random_seed = self._settings.trials, self._settings.seed
        options.min_num_trials = min(50, self._settings.trials)
        if len(points[0]) >= _FEWEST[HOMOGRAPHY]:
            found = self._colmap.estimate_homography_matrix(*points, options)
            if found is not None:
                yield HOMOGRAPHY, np.asarray(found["inlier_mask"], bool)
        if len(points[0]) >= _FEWEST[FUNDAMENTAL]:
            # Enough for two thirds of inliers: each 17th sample of 7 then has inliers only.
            options.max_num_trials = min(100, self._settings.trials)
            found = self._colmap.estimate_fundamental_matrix(*points, options, False)
            if found is not None:
                yield FUNDAMENTAL, np.asarray(found["inlier_mask"], bool)

    def _scratch(self, size: int) -> np.ndarray:
        """Working memory of this thread for `size` numbers."""
        space: np.ndarray | None = getattr(self._space, "array", None)
        if space is None or len(space) < size:
            space = self._space.array = np.empty(size, np.float32)
        return space


def _unit(features: LocalFeatures) -> float:
    """Pixels of a photo at full resolution for one pixel of it at 512."""
    return max(features.width, features.height) / 512


def _box(points: np.ndarray) -> Box | None:
    if not len(points):
        return None
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right, bottom
