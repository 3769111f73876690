"""Positions of photos."""

import numpy as np

from pipelines.photos.positions import within


def test_the_radius_search_equals_all_distances(shared):
    """On the published positions of Pitts30k's test split."""
    with np.load(shared / "data" / "gnd" / "pitts30k_test_gt.npz") as published:
        queries, database = published["utmQ"][::5], published["utmDb"]
        radius = float(published["posDistThr"])
    distance = np.hypot(*(queries[:, None] - database).transpose(2, 0, 1))
    for found, row in zip(within(queries, database, radius), distance, strict=True):
        np.testing.assert_array_equal(found, np.flatnonzero(row <= radius))
