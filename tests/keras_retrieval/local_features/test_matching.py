import numpy as np
import pytest

from keras_retrieval.local_features.matching import mutual_nearest


def rows(count, seed):
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("smallest", [-1.0, 0.6])
def test_pairs_equal_those_of_loops(smallest):
    one, other = rows(40, 0), rows(30, 1)
    expected = []
    for first in range(len(one)):
        second = max(range(len(other)), key=lambda place: float(one[first] @ other[place]))
        back = max(range(len(one)), key=lambda place: float(one[place] @ other[second]))
        if back == first and one[first] @ other[second] >= smallest:
            expected.append((first, second))
    assert len(expected) > 3
    for space in (None, np.full(1300, np.nan, np.float32)):
        found = mutual_nearest(one, other, smallest, space)
        assert list(zip(*(places.tolist() for places in found), strict=True)) == expected


def test_equal_features_are_matched_once():
    one, other = np.repeat(rows(3, 0), 2, axis=0), rows(3, 0)
    found = mutual_nearest(one, other)
    assert [places.tolist() for places in found] == [[0, 2, 4], [0, 1, 2]]


@pytest.mark.parametrize("counts", [(0, 3), (3, 0), (0, 0)])
def test_a_photo_without_features_has_no_pairs(counts):
    assert [len(places) for places in mutual_nearest(rows(counts[0], 0), rows(counts[1], 1))] == [0, 0]
