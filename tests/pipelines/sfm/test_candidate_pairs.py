"""Candidate pairs: nearest descriptors against a plain loop, votes of common neighbours."""

import sys

import numpy as np
import pytest

from pipelines.sfm import candidate_pairs
from pipelines.sfm.candidate_pairs import all_pairs, bridged_pairs, nearest_pairs
from pipelines.sfm.colmap import ordered


def naive_nearest_pairs(names, rows, k):
    near = {}
    for i in range(len(names)):
        others = sorted((j for j in range(len(names)) if j != i), key=lambda j: (-float(rows[i] @ rows[j]), j))
        near[i] = others[: 2 * k]
    chosen = set()
    for i, others in near.items():
        mutual = [j for j in others if i in near[j]]
        for j in [*mutual, *(j for j in others if j not in mutual)][:k]:
            chosen.add(ordered(names[i], names[j]))
    return sorted(chosen)


@pytest.mark.parametrize("k", [1, 3, 40])
def test_nearest_pairs_equal_the_plain_loop(k):
    rows = np.random.default_rng(k).normal(size=(30, 8)).astype("float32")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{number:02}.jpg" for number in range(30)]
    assert nearest_pairs(names, rows, k) == naive_nearest_pairs(names, rows, k)


@pytest.mark.parametrize("own_last", [False, True])
def test_of_many_photos_the_nearest_are_found_approximately(monkeypatch, own_last):
    rows = np.random.default_rng(7).normal(size=(30, 8)).astype("float32")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{number:02}.jpg" for number in range(30)]
    exact = nearest_pairs(names, rows, 3)

    def approximate(queries, database, k):
        assert k == 7
        found = np.argsort(-(queries @ database.T), axis=1, kind="stable")[:, :k]
        return np.roll(found, -1, axis=1) if own_last else found

    monkeypatch.setattr(candidate_pairs, "APPROXIMATE_FROM", 29)
    monkeypatch.setattr(candidate_pairs, "approximate_neighbours", approximate)
    assert nearest_pairs(names, rows, 3) == exact
    monkeypatch.setattr(candidate_pairs, "approximate_neighbours", lambda *_: np.full((30, 7), -1))
    assert nearest_pairs(names, rows, 3) == []


def test_without_scann_many_photos_are_compared_exactly(monkeypatch, caplog):
    rows = np.eye(5, dtype="float32") + 0.1
    exact = nearest_pairs(list("abcde"), rows, 2)
    monkeypatch.setattr(candidate_pairs, "APPROXIMATE_FROM", 4)
    monkeypatch.setitem(sys.modules, "scann", None)
    assert nearest_pairs(list("abcde"), rows, 2) == exact
    assert 'pip install "keras-retrieval[index]"' in caplog.text


def test_photos_without_descriptor_take_no_part():
    rows = np.eye(4, dtype="float32")
    rows[2] = np.nan
    assert nearest_pairs(list("abcd"), rows, 9) == [("a", "b"), ("a", "d"), ("b", "d")]
    assert nearest_pairs(["a"], np.ones((1, 2), "float32"), 3) == []


def test_neighbours_recommend_their_neighbours():
    inliers = {("a", "b"): 90, ("b", "c"): 50, ("c", "d"): 40, ("a", "x"): 0}
    assert bridged_pairs(inliers, 5, 15, set("abcdx")) == [("a", "c"), ("b", "d")]
    assert bridged_pairs(inliers, 5, 45, set("abcdx")) == [("a", "c")]
    assert bridged_pairs(inliers, 5, 15, {"d"}) == [("b", "d")]


def test_a_pair_tried_in_vain_speaks_against_its_friends():
    friends = {("a", "b"): 100, ("b", "c"): 100}
    assert bridged_pairs(friends, 5, 15, set("abc")) == [("a", "c")]
    foes = {("a", "d"): 100, ("c", "d"): 0, ("a", "e"): 100, ("c", "e"): 0}
    assert ("a", "c") not in bridged_pairs(friends | foes, 5, 15, set("abcde"))


def test_each_photo_takes_the_best_recommendations():
    hub = {ordered("hub", name): count for name, count in zip("abcd", (100, 80, 60, 40), strict=True)}
    assert bridged_pairs(hub, 1, 15, {"a"}) == [("a", "b"), ("a", "c"), ("a", "d")]
    assert bridged_pairs(hub, 1, 15, set("ab")) == [("a", "b"), ("a", "c"), ("a", "d")]


def test_all_pairs():
    assert all_pairs(["b", "a", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]
