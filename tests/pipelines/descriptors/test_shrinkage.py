"""The shrinkage of Lw by held-out objects."""

import re

import numpy as np
import pytest

from keras_retrieval import metrics
from keras_retrieval.whitening.covariance import Projection, learn_lw
from pipelines.descriptors import shrinkage
from pipelines.descriptors.shrinkage import SHIFTS, SHRINKAGES, choose_shrinkage


def photos_of(objects, each, noise, size=32, seed=0):
    """Descriptors of `objects` x `each` photos, whose noise has the deviations `noise` in each dimension."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.normal(size=(objects, size)), each, axis=0) + noise * rng.normal(size=(objects * each, size))
    pairs = [
        (each * one + q, each * one + p) for one in range(objects) for q in range(each) for p in range(each) if q != p
    ]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), *np.array(pairs).T


def held_out(rows, qidxs, pidxs, place, value, shift):
    """The mean of the mAP of each object that Lw was not learned from, computed with `learn_lw` and `metrics`."""
    found = []
    for one in np.unique(place):
        others = place[qidxs] != one
        lw = learn_lw(rows, qidxs[others], pidxs[others], value)
        y = Projection(shift * lw.m, lw.P).apply(rows)
        queries = np.flatnonzero(place == one)
        ranks = np.argsort(-(y @ y[queries].T), axis=0, kind="stable")
        positives = [np.unique(np.r_[pidxs[qidxs == row], qidxs[pidxs == row]]) for row in queries]
        junk = [np.setdiff1d(queries, rows_of) for rows_of in positives]
        found.append(metrics.retrieval(ranks, positives, junk).ap.mean())
    return np.mean(found)


@pytest.mark.parametrize(("size", "shift"), [(32, 1.0), (64, 1.0), (64, 0.6)])  # fewer and more than photos
def test_each_object_is_searched_for_with_lw_of_the_others(size, shift):
    rows, qidxs, pidxs = photos_of(9, 4, np.linspace(0.1, 3, size), size)
    kept = ~((qidxs % 4 == 0) & (pidxs % 4 == 3)) & ~((qidxs % 4 == 3) & (pidxs % 4 == 0))
    qidxs, pidxs = qidxs[kept], pidxs[kept]  # the first and the last photo are neither positives nor negatives
    expected = [held_out(rows, qidxs, pidxs, np.arange(36) // 4, value, shift) for value in SHRINKAGES]
    chosen = choose_shrinkage(rows, qidxs, pidxs, shift)
    assert chosen.value == SHRINKAGES[int(np.argmax(expected))]
    best, first = re.search(r"held out, ([0-9.]+), where 1 gives ([0-9.]+)", chosen.why).groups()
    assert float(best) == pytest.approx(max(expected), abs=1e-4)
    assert float(first) == pytest.approx(expected[0], abs=1e-4)


def test_noise_in_few_directions_needs_less_shrinkage_than_noise_in_all():
    few = np.where(np.arange(64) < 6, 6.0, 0.1)
    assert choose_shrinkage(*photos_of(20, 3, few, 64)).value == 1
    assert choose_shrinkage(*photos_of(20, 3, 1.2, 64)).value > 1


def test_the_shift_is_chosen_with_the_shrinkage():
    chosen = {}
    for seed in (0, 3):  # of values above 0 that are seldom large, as GeM's
        rng = np.random.default_rng(seed)
        rows = np.repeat(rng.exponential(size=(9, 64)) ** 2, 4, axis=0) + rng.exponential(size=(36, 64)) ** 2
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        _, qidxs, pidxs = photos_of(9, 4, 1.0)
        found = choose_shrinkage(rows, qidxs, pidxs)
        scores = {
            (shift, value): held_out(rows, qidxs, pidxs, np.arange(36) // 4, value, shift)
            for shift in SHIFTS
            for value in SHRINKAGES
        }
        assert scores[found.shift, found.value] == pytest.approx(max(scores.values()), abs=1e-9)
        assert choose_shrinkage(rows, qidxs, pidxs, found.shift).value == found.value
        assert "each with the shifts 1, 0.75, 0.5, the one" in found.why
        chosen[seed] = found.shift
    assert chosen == {0: 1.0, 3: 0.75}


def test_few_objects_and_many_photos_are_not_compared():
    few = choose_shrinkage(*photos_of(4, 5, 1.0))
    assert (few.value, few.why) == (
        1,
        "20 photos in pairs, fewer than 4 for each of 32 dimensions, and fewer than 5 objects with pairs",
    )
    many = choose_shrinkage(*photos_of(16, 8, 1.0))
    assert (many.value, many.why) == (0, "128 photos in pairs, at least 4 for each of 32 dimensions")


def test_large_objects_are_cut_and_of_many_some_are_chosen(monkeypatch):
    monkeypatch.setattr(shrinkage, "MOST_PHOTOS", 30)
    assert "of 10 objects that" in choose_shrinkage(*photos_of(14, 3, 1.0, 64)).why
    assert "of 5 objects that" in choose_shrinkage(*photos_of(6, 12, 1.0, 64)).why


def test_copies_and_photos_paired_with_themselves_do_no_harm():
    rows, qidxs, pidxs = photos_of(7, 2, 0.0)
    rows[-2:] = np.eye(2, 32)  # the pairs of all other objects are equal
    for q, p in ((qidxs, pidxs), (np.r_[qidxs, 3], np.r_[pidxs, 3])):
        assert choose_shrinkage(rows, q, p).value in SHRINKAGES
