"""Orders the first photos of a ranking by the number of inliers that verification finds, and by their scores."""

from collections.abc import Sequence

import numpy as np

FEWEST_INLIERS = 20
"""Number of inliers from which photos count as verified; chance matches of photos of other objects have fewer."""


def verified_order(scores: np.ndarray, inliers: Sequence[int | None]) -> np.ndarray:
    """Returns the order of the first n photos of a ranking after verification.

    Photos with at least `FEWEST_INLIERS` inliers come first, in the order of their number of inliers plus their score;
    the others follow in the order of the ranking.

    Args:
        scores: similarities of the photos to the query, (n,), as the ranking gives them.
        inliers: the number of inliers of each photo; None for a photo that could not be verified, which counts as 0.

    Returns:
        (n,) places in the ranking, best first.
    """
    counts = np.array([count or 0 for count in inliers], np.float64)
    verified = counts >= FEWEST_INLIERS
    return np.lexsort((np.arange(len(counts)), np.where(verified, -(counts + scores), 0.0), ~verified))
