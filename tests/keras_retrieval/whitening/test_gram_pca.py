"""PCA from the Gram matrix equals PCA from the covariance on the directions with variance."""

import numpy as np
import pytest

from keras_retrieval.whitening import gram_pca as wide_whitening
from keras_retrieval.whitening.covariance import learn_pca
from keras_retrieval.whitening.gram_pca import learn_pca_from_gram

pytestmark = pytest.mark.backend  # numpy only, on every backend


def rows(n=30, dim=50, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, dim)) * np.linspace(3, 0.2, dim) + 1).astype("float32")


@pytest.mark.parametrize("numbers", [2**24, 50 * 7])
def test_it_is_the_pca_of_the_covariance(monkeypatch, numbers):
    monkeypatch.setattr(wide_whitening, "_NUMBERS", numbers)
    x = rows()
    found, wanted = learn_pca_from_gram([x[:11], x[11:]], np.arange(30), 20), learn_pca(x)
    np.testing.assert_allclose(found.m, wanted.m, atol=1e-6)
    np.testing.assert_allclose(found.P, wanted.P[:20], atol=1e-6)
    y = (x - found.m) @ found.P.T
    np.testing.assert_allclose(y.T @ y / 30, np.eye(20), atol=1e-6)
    np.testing.assert_allclose(found.apply(x, 8), wanted.apply(x, 8), atol=1e-5)


def test_directions_that_few_rows_do_not_show_are_left_out():
    assert learn_pca_from_gram(rows(), np.arange(30), 45).P.shape == (29, 50)
    with pytest.raises(ValueError, match=r"must be in 1\.\.29, got 30"):
        learn_pca_from_gram(rows(), np.arange(30)).apply(rows(), 30)


def test_only_the_rows_asked_for_count_and_of_many_a_part(monkeypatch):
    x = rows(60)
    some = np.arange(3, 50, 2)
    np.testing.assert_allclose(
        learn_pca_from_gram(x, some, 9).P, learn_pca_from_gram(x[some], np.arange(len(some)), 9).P
    )
    monkeypatch.setattr(wide_whitening, "MAX_ROWS", 12)
    part = learn_pca_from_gram(x, np.arange(60), 50)
    assert len(part.P) == 11
    np.testing.assert_allclose(part.m, x[np.linspace(0, 59, 12).astype(int)].mean(axis=0), atol=1e-6)


def test_too_few_or_equal_rows_are_refused():
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        learn_pca_from_gram(rows(), np.arange(1))
    with pytest.raises(ValueError, match="all 5 rows are equal"):
        learn_pca_from_gram(np.ones((5, 9), "float32"), np.arange(5))
