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


def pairs(found):
    return list(zip(*(places.tolist() for places in found), strict=True))


def test_a_match_with_a_second_nearest_feature_almost_as_near_is_left_out():
    one, other = rows(30, 5), rows(20, 6)
    other[:10] = one[:10] + 0.02 * rows(10, 7)
    other[10] = other[0] + 0.001 * rows(1, 8)[0]
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    cosines = one @ other.T
    expected = []
    for row, column in pairs(mutual_nearest(one, other)):
        rivals = [*np.delete(cosines[row], column), *np.delete(cosines[:, column], row)]
        if np.arccos(min(cosines[row, column], 1)) <= 0.8 * np.arccos(max(rivals)):
            expected.append((row, column))
    assert pairs(mutual_nearest(one, other, largest_ratio=0.8)) == expected
    assert {column for _, column in expected} >= set(range(1, 10))
    assert not {column for _, column in expected} & {0, 10}
