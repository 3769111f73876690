"""Approximate search of a large pool: close to exact search, and never padded with rows that are not neighbours."""

import sys

import numpy as np
import pytest

from pipelines.descriptors.approximate_search import approximate_neighbours


def clustered(count, seed):
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.random.default_rng(0).normal(size=(count // 20, 32)), 20, axis=0)
    rows = rows + rng.normal(0, 0.4, rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("float32")


def test_it_finds_nearly_all_that_exact_search_finds():
    pytest.importorskip("scann")
    rows, queries = clustered(2000, 1), clustered(2000, 2)[::20]
    found = approximate_neighbours(queries, rows, 10)
    assert found.shape == (100, 10)
    assert found.dtype == np.int64
    exact = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    assert np.mean([len(set(one) & set(other)) / 10 for one, other in zip(found, exact, strict=True)]) > 0.95


def test_few_rows_are_filled_up_with_minus_one():
    pytest.importorskip("scann")
    rows = clustered(40, 1)
    found = approximate_neighbours(rows[:3], rows, 500)
    assert found.shape == (3, 40)
    for row in found.tolist():
        there = [index for index in row if index >= 0]
        assert len(there) == len(set(there))
        assert row == there + [-1] * (len(row) - len(there))


def test_rows_that_would_end_the_process_are_refused():
    pytest.importorskip("scann")
    rows = clustered(40, 1)
    rows[3, 3] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        approximate_neighbours(rows[:1], rows, 5)


def test_without_scann_the_pip_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(ImportError, match=r'pip install "keras-retrieval\[index\]"'):
        approximate_neighbours(clustered(40, 1), clustered(40, 1), 5)
