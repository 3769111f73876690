"""Counts of tuples."""

import numpy as np

from pipelines.training_tuples.data import statistics
from tests.helpers.tuples_of_clusters import tuples_of


def test_statistics_count():
    tuples = tuples_of([3, 3, 4], validation=np.array([False] * 6 + [True] * 4))
    assert statistics(tuples) == {
        "training": {"photos": 6, "clusters": 2, "queries": 2, "pairs": 2, "pairs_per_query": 1.0},
        "validation": {"photos": 4, "clusters": 1, "queries": 1, "pairs": 1, "pairs_per_query": 1.0},
    }
