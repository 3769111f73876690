"""Counts of tuples."""

import numpy as np

from pipelines.training_tuples.data import Tuples, statistics


def tuples_of(sizes, **changes):
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    first = np.cumsum([0, *sizes[:-1]])
    fields = {
        "images": [f"{row}.jpg" for row in range(len(cluster))],
        "cluster": cluster,
        "qidxs": first,
        "pidxs": first + 1,
    }
    return Tuples(**(fields | changes))


def test_statistics_count():
    tuples = tuples_of([3, 3, 4], validation=np.array([False] * 6 + [True] * 4))
    assert statistics(tuples) == {
        "training": {"photos": 6, "clusters": 2, "queries": 2, "pairs": 2, "pairs_per_query": 1.0},
        "validation": {"photos": 4, "clusters": 1, "queries": 1, "pairs": 1, "pairs_per_query": 1.0},
    }
