"""Random initial values of large weights: their distribution, their seed, and the weights of files."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_retrieval.layers import initial_values
from keras_retrieval.layers.initial_values import UniformOf16Bits, drawn, replaced_by_a_file

pytestmark = pytest.mark.backend


def values(limit, shape, dtype="float32"):
    return ops.convert_to_numpy(UniformOf16Bits(limit)(shape, dtype))


@pytest.mark.parametrize("piece", [2**22, 1000, 1])
def test_values_are_uniform(monkeypatch, piece):
    monkeypatch.setattr(initial_values, "_PIECE", piece)
    x = values(0.03, (301, 99))
    assert (x.shape, x.dtype, -x.min() <= 0.03, x.max() < 0.03) == ((301, 99), np.float32, True, True)
    counts, _ = np.histogram(x, bins=10, range=(-0.03, 0.03))
    assert np.abs(counts / x.size - 0.1).max() < 6 * (0.09 / x.size) ** 0.5
    assert abs(np.corrcoef(x[:-1].ravel(), x[1:].ravel())[0, 1]) < 0.03
    assert len(np.unique(x)) > 20_000


def test_limits_of_glorot():
    for shape, fans in (((70, 90), 160), ((3, 3, 20, 30), 450)):
        limit = (6 / fans) ** 0.5
        assert 0.98 * limit < np.abs(values(None, shape)).max() <= limit


def test_the_seed_is_that_of_keras():
    keras.utils.set_random_seed(1)
    one, other = values(1.0, (5, 7)), values(1.0, (5, 7))
    assert not np.array_equal(one, other)
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(values(1.0, (5, 7)), one)


def test_nothing_is_drawn_for_weights_of_a_file():
    with replaced_by_a_file():
        assert drawn(0.03) == "zeros"
    assert drawn(0.03).limit == 0.03
