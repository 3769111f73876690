"""Tuples with clusters of given sizes, for the tests of their checks, counts and split."""

import numpy as np

from pipelines.training_tuples.data import Tuples


def tuples_of(sizes, **changes):
    """One pair for each cluster: its first photo is the query and its second the positive."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    first = np.cumsum([0, *sizes[:-1]])
    fields = {
        "images": [f"{row}.jpg" for row in range(len(cluster))],
        "cluster": cluster,
        "qidxs": first,
        "pidxs": first + 1,
    }
    return Tuples(**(fields | changes))
