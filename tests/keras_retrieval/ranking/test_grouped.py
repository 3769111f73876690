"""Groups of rows are ranked by their best rows, also where a group lies in two chunks."""

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from keras_retrieval.ranking.grouped import nearest_groups
from keras_retrieval.ranking.rows import DescriptorError


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("k", [1, 4, 99])
def test_the_best_rows_are_those_of_a_loop(chunk, k):
    chance = np.random.default_rng(chunk + k)
    counts = chance.integers(1, 9, 17)
    starts = np.cumsum(counts) - counts
    rows, queries = (chance.normal(size=(count, 5)).astype("float32") for count in (counts.sum(), 4))
    groups, scores = nearest_groups(queries, rows, starts, k, chunk=chunk)
    for query, found, similarities in zip(queries, groups, scores, strict=True):
        best = [(rows[first : first + count] @ query).max() for first, count in zip(starts, counts, strict=True)]
        expected = np.argsort(-np.array(best), kind="stable")[:k]
        assert found.tolist() == expected.tolist()
        np.testing.assert_allclose(similarities, np.array(best)[expected], atol=1e-5)


def test_what_are_no_groups_is_refused():
    rows = np.ones((4, 2), np.float32)
    for starts in ([], [1], [0, 2, 2], [[0]]):
        with pytest.raises(ArgumentError, match="starts must be"):
            nearest_groups(rows, rows, starts, 1)
    with pytest.raises(ArgumentError, match="4 rows, and the last group begins with row 7"):
        nearest_groups(rows, rows, [0, 7], 1)
    with pytest.raises(ArgumentError, match="k must be at least 1"):
        nearest_groups(rows, rows, [0], 0)
    with pytest.raises(DescriptorError, match="database row 2"):
        nearest_groups(rows, np.array([[0, 1], [1, 0], [np.nan, 0]], np.float32), [0, 1], 1)
