"""The linear adaptation against formulas that are written out, and what it may not change."""

import numpy as np
import pytest

from keras_retrieval.whitening import linear
from keras_retrieval.whitening.linear import (
    SCALE,
    SoftmaxLoss,
    Strength,
    directions,
    fit_linear,
    fit_softmax,
    learn_linear,
    minimise,
    whiten_moment,
)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def of_objects(objects=8, each=5, dim=12, seed=0, nuisance=3.0):
    """Descriptors of objects that differ in few directions, and photos of each that differ in others."""
    rng = np.random.default_rng(seed)
    own, other = np.arange(dim) < dim // 2, np.arange(dim) >= dim // 2
    rows = np.repeat(rng.normal(size=(objects, dim)) * own, each, axis=0)
    rows = rows + nuisance * rng.normal(size=rows.shape) * other + 0.1 * rng.normal(size=rows.shape)
    return unit(rows), np.repeat(np.arange(objects), each)


def naive_loss(W, centres, rows, objects, start, penalty):
    total = 0.0
    for number in np.unique(objects):
        own = rows[objects == number]
        for x in own:
            logits = [SCALE * float(unit(W @ x) @ unit(c)) for c in centres]
            total -= (logits[number] - np.log(np.sum(np.exp(logits)))) / (len(own) * len(np.unique(objects)))
    return total + penalty * np.sum((W - start) ** 2)


def test_the_loss_and_its_gradient_are_those_written_out():
    rows, objects = of_objects(3, 3, 4)
    rows, objects, rng = rows[:-1], objects[:-1], np.random.default_rng(0)  # an object of two photos
    start, weights = np.eye(4), 1 / (3 * np.array([3, 3, 3, 3, 3, 3, 2, 2]))
    loss = SoftmaxLoss(rows, objects, weights, start, 0.05)
    values = np.concatenate([(start + 0.3 * rng.normal(size=(4, 4))).ravel(), rng.normal(size=12)])

    def written_out(values):
        return naive_loss(values[:16].reshape(4, 4), values[16:].reshape(3, 4), rows, objects, start, 0.05)

    value, gradient = loss(values)
    assert value == pytest.approx(written_out(values))
    steps = 1e-5 * np.eye(len(values))
    slopes = [(written_out(values + step) - written_out(values - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(gradient, slopes, atol=1e-6)


def test_the_penalty_draws_the_softmax_to_its_beginning():
    rows, objects = of_objects()
    far, near = (np.linalg.norm(fit_softmax(rows, objects, np.eye(12), p) - np.eye(12)) for p in (0.001, 1.0))
    assert far > 3 * near > 0
    assert fit_softmax(rows, objects, np.eye(12), np.inf).tolist() == np.eye(12).tolist()


def test_lbfgs_finds_the_minimum_of_a_quadratic_function():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(20, 20))
    A = A @ A.T + np.eye(20)
    b = rng.normal(size=20)
    found = minimise(lambda x: (float(x @ A @ x / 2 - b @ x), A @ x - b), np.zeros(20), 200)
    assert found @ A @ found / 2 - b @ found < -b @ np.linalg.solve(A, b) / 2 + 1e-3


@pytest.mark.parametrize("shrinkage", [0.5, 10.0])
def test_the_beginning_is_the_formula(shrinkage):
    rows, objects = of_objects()
    objects[3] = 1  # objects of different sizes count equally
    each = [rows[objects == number] for number in range(8)]
    M = np.mean([some.T @ some / len(some) for some in each], axis=0)
    values, E = np.linalg.eigh(np.eye(12) + M * 12 / (shrinkage * np.trace(M)))
    W = whiten_moment(rows, objects, shrinkage, 12)
    np.testing.assert_allclose(W, (E / np.sqrt(values)) @ E.T, atol=1e-12)
    np.testing.assert_array_equal(whiten_moment(rows, objects, np.inf, 12), np.eye(12))


@pytest.mark.parametrize("strength", [Strength(penalty=0.01), Strength(30.0, 0.01)], ids=str)
def test_held_out_objects_are_told_apart_better(strength):
    rows, objects = of_objects(16, 6, nuisance=1.0)
    held = objects >= 10
    P = learn_linear(rows[~held], objects[~held], strength)

    def gap(y):
        similar, same = y @ y.T, objects[held][:, None] == objects[held]
        spread = similar[~same].std()
        return (similar[same & ~np.eye(len(y), dtype=bool)].mean() - similar[~same].mean()) / spread

    assert gap(P.apply(rows[held])) > gap(rows[held])


def test_what_the_photos_do_not_span_is_not_changed():
    rows, objects = of_objects(4, 3, dim=40)
    P = learn_linear(rows, objects, Strength(3.0, 0.01)).P
    assert P.shape == (40, 40)
    others = np.linalg.svd(rows)[2][12:]
    np.testing.assert_allclose(others @ P.T @ P @ others.T, np.eye(28), atol=1e-6)
    same = learn_linear(rows, objects, Strength()).apply(np.eye(40))
    np.testing.assert_allclose(same @ same.T, np.eye(40), atol=1e-5)
    assert Strength().is_identity
    assert not Strength(3.0).is_identity


def test_the_first_dimensions_are_the_principal_ones():
    rows, objects = of_objects(6, 4, dim=30)
    whole, reduced = (learn_linear(rows, objects, Strength(10.0), dim) for dim in (None, 5))
    np.testing.assert_array_equal(reduced.P, whole.P[:5])
    y = rows @ whole.P.T
    second = y.T @ y
    np.testing.assert_allclose(second, np.diag(np.diag(second)), atol=1e-6)
    assert (np.diff(np.diag(second)) <= 1e-6).all()
    assert learn_linear(rows, objects, Strength(10.0), 28).P.shape == (28, 30)  # beyond the 24 that are spanned


def test_directions_of_wide_descriptors_are_those_of_the_moment(monkeypatch):
    rows, objects = of_objects(5, 4, dim=30)
    V = directions(rows)
    values, E = np.linalg.eigh(rows.T @ rows)
    np.testing.assert_allclose(np.abs(np.sum(V[:3] * E[:, ::-1].T[:3], axis=1)), 1, atol=1e-9)
    assert len(V) == np.count_nonzero(values > 1e-10 * values[-1])
    monkeypatch.setattr(linear, "ROWS", 8)
    V = directions(rows)
    assert V.shape == (8, 30)
    np.testing.assert_allclose(V @ V.T, np.eye(8), atol=1e-9)
    monkeypatch.setattr(linear, "DIRECTIONS", 3)
    z = rows @ V.T
    W, whitened = (fit_linear(z, objects, Strength(10.0, penalty), 30) for penalty in (0.01, np.inf))
    np.testing.assert_array_equal(W[3:], whitened[3:])
    assert np.abs(W - whitened)[:3, :3].max() > 1e-3


def test_wrong_arguments_are_named():
    rows, objects = of_objects()
    for call, message in [
        (lambda: learn_linear(rows, objects * 0, Strength(penalty=1.0)), "at least 2 objects, got 1"),
        (lambda: learn_linear(rows, objects[1:], Strength()), "one number for each of 40 rows"),
        (lambda: learn_linear(rows * 0, objects, Strength()), "all 40 descriptors are 0"),
        (lambda: learn_linear(rows * np.nan, objects, Strength()), "row 0 contains NaN"),
        (lambda: learn_linear(rows, objects, Strength(), 13), r"dim must be in 1\.\.12, got 13"),
        (lambda: learn_linear(rows, objects, Strength(0.0)), "shrinkage must be above 0"),
        (lambda: learn_linear(rows, objects, Strength(penalty=-1.0)), "penalty must be above 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
