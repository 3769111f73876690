"""How far a linear adaptation goes from the identity, and when the network is left as it is."""

import itertools

import numpy as np
import pytest

from keras_retrieval.whitening.linear import Strength
from pipelines.descriptors.learn_whitening import WhiteningError
from pipelines.whitening import adaptation
from pipelines.whitening.adaptation import Comparison, choose, learn_adaptation
from pipelines.whitening.objects import ObjectPhotos, with_positives
from tests.pipelines.descriptors.test_learn_whitening import write_rows


@pytest.fixture(autouse=True)
def few_strengths(monkeypatch):
    monkeypatch.setattr(adaptation, "STRENGTHS", (Strength(30.0), Strength(penalty=0.01)))


def described(folder, objects=10, each=5, dim=12, nuisance=1.0, seed=0):
    """Descriptors of objects, whose photos differ by a nuisance in half of the dimensions, in a folder."""
    rng = np.random.default_rng(seed)
    own = np.arange(dim) < dim // 2
    rows = np.repeat(rng.normal(size=(objects, dim)) * own, each, axis=0)
    rows = rows + nuisance * rng.normal(size=rows.shape) * ~own + 0.3 * rng.normal(size=rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{row // each}/{row}.jpg" for row in range(len(rows))]
    place = np.repeat(np.arange(objects), each)
    photos = ObjectPhotos(names, place, place, np.full(len(names), -1))
    return write_rows(folder, rows.astype("float32"), names, 1000), photos, rows


def test_what_helps_held_out_objects_is_learned_the_same_way_each_time(tmp_path):
    folder, photos, rows = described(tmp_path / "rows")
    first, again = (learn_adaptation(folder, photos, None, 3) for _ in range(2))
    np.testing.assert_array_equal(first.projection.P, again.projection.P)
    assert first.account.startswith("linear: learned from 50 photos of 10 objects: softmax with penalty 0.01; ")
    assert first.account == again.account
    assert not first.projection.m.any()
    y = first.projection.apply(rows)
    same = photos.place[:, None] == photos.place
    assert (y @ y.T)[same].mean() > (rows @ rows.T)[same].mean()
    reduced = learn_adaptation(folder, photos, 4, 3)
    assert reduced.projection.P.shape == (4, 12)


@pytest.mark.parametrize(("objects", "said"), [
    (10, "a difference that chance explains"),
    (4, "compared with 5 objects or more: add photos of others"),
])  # fmt: skip
def test_a_network_that_gains_nothing_is_left_as_it_is(tmp_path, objects, said):
    folder, photos, rows = described(tmp_path / "rows", objects, nuisance=0.0)  # each photo finds its object already
    found = learn_adaptation(folder, photos, None, 0)
    assert found.projection is None
    assert found.account.startswith(f"linear: the network is left as it is: {len(rows)} photos of {objects} objects: ")
    assert said in found.account
    reduced = learn_adaptation(folder, photos, 12, 0)
    assert "which are reduced to 12 dimensions without adaptation" in reduced.account
    y = reduced.projection.apply(rows)
    np.testing.assert_allclose(y @ y.T, rows @ rows.T, atol=1e-5)


def test_the_probability_of_chance_is_that_of_all_signs():
    gains = np.array([0.3, 0.0, 0.1, -0.05, 0.2, 0.15])
    there = gains[gains != 0]
    sums = [np.dot(signs, there) for signs in itertools.product((-1, 1), repeat=5)]
    chance = np.mean([one >= there.sum() - 1e-12 for one in sums])
    assert Comparison(Strength(), gains, 0.1).chance == pytest.approx(chance)
    assert Comparison(Strength(), -gains, 0.1).chance == 1
    assert Comparison(Strength(), np.zeros(5), 0.1).chance == 1
    many = Comparison(Strength(), np.full(40, 0.01), 0.1)
    assert many.chance < 0.001


def test_the_least_change_within_a_standard_error_of_the_best_is_chosen():
    best = Comparison(Strength(3.0), np.array([0.1, 0.2, 0.1, 0.2, 0.1, 0.2]), 0.3)
    close = Comparison(Strength(30.0), best.gains - [0.0, 0.1, -0.05, 0.05, -0.05, 0.0], 0.1)
    weak = Comparison(Strength(100.0), best.gains - 0.08, 0.01)
    chance = Comparison(Strength(10.0), np.array([9.0, -9.0, 9.0, -9.0, 9.0, -8.0]), 0.0)
    assert choose([best, close, weak, chance]) is close
    assert choose([best, weak]) is best
    assert choose([chance]) is None


def test_photos_of_one_place_are_no_negatives_and_copies_no_positives(tmp_path, monkeypatch):
    names = list("abcdef")
    photos = ObjectPhotos(
        names, np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 2, 1, 1]), np.array([5, 5, -1, -1, 6, 6])
    )
    assert with_positives(photos).tolist() == [True, True, True, False, False, False]
    similar = np.array([[1.0, 0.9, 0.2, 0.8, 0.5, 0.1]])
    # e is a negative before the positive c; the copy b and the other part of the place, d, do not count
    assert adaptation._average_precisions(similar, photos, np.array([0])) == [pytest.approx((0 + 1 / 2) / 2)]


def test_photos_without_descriptors_or_positives_are_counted(tmp_path):
    folder, photos, _ = described(tmp_path / "rows", 3)
    others = ObjectPhotos([f"x{name}" for name in photos.names], photos.place, photos.relevant, photos.copies)
    with pytest.raises(
        WhiteningError,
        match=r"no descriptor of any of the 15 photos to learn from \(such as x0/0.jpg\): give their folder",
    ):
        learn_adaptation(folder, others, None, 0)
    alone = ObjectPhotos(photos.names, np.arange(15), np.arange(15), photos.copies)
    with pytest.raises(WhiteningError, match="of 15 photos of 15 objects none of them has two photos that are not"):
        learn_adaptation(folder, alone, None, 0)
    one = ObjectPhotos(photos.names[:5], photos.place[:5], photos.relevant[:5], photos.copies[:5])
    with pytest.raises(WhiteningError, match="of 5 photos of 1 object only one of them has two photos"):
        learn_adaptation(folder, one, None, 0)


def test_of_many_photos_whole_objects_are_used_and_one_fold_is_held_out(tmp_path, monkeypatch):
    folder, photos, _ = described(tmp_path / "rows", 30)
    monkeypatch.setattr(adaptation, "MOST_PHOTOS", 105)
    monkeypatch.setattr(adaptation, "MOST_OF_OBJECT", 4)
    monkeypatch.setattr(adaptation, "_FEW_PHOTOS", 50)
    monkeypatch.setattr(adaptation, "MOST_QUERIES", 20)
    found = learn_adaptation(folder, photos, None, 0)
    assert "105 photos of 26 objects" in found.account
    assert "mAP of 20 photos of 5 objects that were held out" in found.account


def test_very_wide_descriptors_are_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "WIDE", 10)
    monkeypatch.setattr(adaptation, "DIM", 9)
    monkeypatch.setattr(adaptation, "SIGNIFICANT", 1.0)
    folder, photos, _ = described(tmp_path / "rows")
    assert learn_adaptation(folder, photos, None, 0).projection.P.shape == (9, 12)
