"""The penalty that keeps descriptors near those before training."""

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from keras_retrieval.losses import KeptDescriptors
from tests.helpers.backends import gradient, run

pytestmark = pytest.mark.backend


def unit_rows(seed, shape):
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype("float32")


def naive(rows, x, before, weight):
    x, rows = x.reshape(-1, x.shape[-1]).astype("float64"), rows.ravel()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    known = [(one, before[row].astype("float64")) for one, row in zip(x, rows, strict=True) if before[row].any()]
    moved = np.mean([1 - one @ old for one, old in known])
    changes = [(one @ other - old @ its) ** 2 for one, old in known for other, its in known]
    return weight * (moved + 10 * np.mean(changes))


def test_it_equals_a_naive_loop_without_photos_that_have_no_descriptor():
    before = unit_rows(0, (9, 8))
    before[4] = 0
    rows, x = np.array([[0, 4, 2], [8, 2, 5]]), unit_rows(1, (2, 3, 8)) * 0.5
    kept = KeptDescriptors(before, 3.0)
    assert float(run(kept, rows, x)) == pytest.approx(naive(rows, x, before, 3.0), rel=1e-5)
    slopes = gradient(lambda x: kept(rows, x), x)
    assert not slopes[0, 1].any()  # of the photo without a descriptor
    assert np.abs(slopes).max() > 0.01
    assert float(run(kept, rows, before[rows] + 0.0)) == pytest.approx(0, abs=1e-6)


def test_a_weight_that_keeps_nothing_is_refused():
    with pytest.raises(ArgumentError, match="weight must be above 0, got 0"):
        KeptDescriptors(unit_rows(0, (2, 4)), 0)
