"""Losses on tuples against the published code's values and gradients, and against naive loops."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_retrieval import losses

from .backends import gradient

pytestmark = pytest.mark.backend


def naive_contrastive(tuples, margin):
    total = 0.0
    for q, p, *negatives in tuples.astype("float64"):
        total += ((q - p + 1e-6) ** 2).sum() / 2
        for n in negatives:
            total += max(margin - np.sqrt(((q - n + 1e-6) ** 2).sum()), 0) ** 2 / 2
    return total


def naive_triplet(tuples, margin):
    total = 0.0
    for q, p, *negatives in tuples.astype("float64"):
        for n in negatives:
            total += max(((q - p) ** 2).sum() - ((q - n) ** 2).sum() + margin, 0)
    return total


ROWS = {
    "contrastive": (losses.ContrastiveLoss, 0.75, naive_contrastive),
    "triplet": (losses.TripletLoss, 0.1, naive_triplet),
}
rows = pytest.mark.parametrize("name", ROWS)


def tuples(seed=0, shape=(4, 7, 16)):
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True) * 0.6).astype("float32")


@rows
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_naive_loop(name, seed):
    make, margin, naive = ROWS[name]
    x = tuples(seed, (4, 2 + seed, 16))
    np.testing.assert_allclose(float(make(margin)(np.zeros(4), x)), naive(x, margin), rtol=1e-5, atol=1e-6)


@rows
@pytest.mark.parametrize("k", range(3))
def test_values_and_gradients_equal_the_published_code(shared, name, k):
    golden = np.load(shared / "goldens" / "reference_layers.npz")
    x = golden[f"loss{k}_vectors"]
    contrastive = name == "contrastive"
    loss = losses.ContrastiveLoss(float(golden[f"loss{k}_margin"])) if contrastive else losses.TripletLoss(0.1)
    value = golden[f"loss{k}_contrastive_sum" if contrastive else f"loss{k}_triplet_m0.1_sum"]
    np.testing.assert_allclose(float(loss(np.zeros(len(x)), x)), value, rtol=1e-5, atol=1e-5)
    dx = gradient(lambda x: loss(np.zeros(len(x)), x), x)
    np.testing.assert_allclose(dx, golden[f"loss{k}_{name}_grad"], rtol=0, atol=1e-5)


@rows
def test_gradient_is_finite_where_all_descriptors_coincide(name):
    make, margin, _ = ROWS[name]
    x = np.repeat(tuples(shape=(3, 1, 8)), 4, axis=1)
    assert np.isfinite(gradient(lambda x: make(margin)(np.zeros(3), x), x)).all()


@rows
def test_config_round_trip(name):
    make, margin, _ = ROWS[name]
    loss = keras.losses.deserialize(keras.losses.serialize(make(margin * 2)))
    assert isinstance(loss, make)
    assert loss.margin == margin * 2


@rows
def test_bfloat16_descriptors_are_summed_in_float32(name):
    make, margin, naive = ROWS[name]
    x = ops.cast(tuples(), "bfloat16")
    exact = naive(ops.convert_to_numpy(ops.cast(x, "float32")), margin)
    np.testing.assert_allclose(float(make(margin, dtype="float32")(np.zeros(4), x)), exact, rtol=1e-4)


@rows
def test_a_margin_is_above_zero(name):
    with pytest.raises(ValueError, match="margin is above 0"):
        ROWS[name][0](0)
