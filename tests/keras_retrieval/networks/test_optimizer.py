"""Schedules of the learning rate, AdamW, and gradients of blocks that are computed again."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_retrieval import layers
from keras_retrieval.networks.optimizer import WarmUp, adamw, linear_rate, stepped_rate
from tests.helpers.backends import gradient

pytestmark = pytest.mark.backend


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_a_linear_rate_falls_to_its_end_and_stays():
    np.testing.assert_allclose(
        rates(linear_rate(4000, 6e-5, 0.2), [0, 1000, 4000, 9000]), [6e-5, 4.8e-5, 1.2e-5, 1.2e-5], rtol=1e-5
    )


def test_a_stepped_rate_changes_with_the_first_step_of_an_epoch():
    rate = stepped_rate(50, 1e-4, (10, 20), 0.1)
    np.testing.assert_allclose(rates(rate, [0, 499, 500, 999, 1000]), [1e-4, 1e-4, 1e-5, 1e-5, 1e-6], rtol=1e-5)


@pytest.mark.parametrize("schedule", [1e-3, linear_rate(100, 1e-3)])
def test_a_warm_up_grows_linearly_and_survives_its_config(schedule):
    rate = WarmUp(schedule, 10)
    plain = schedule if callable(schedule) else lambda step: schedule
    wanted = [(min(step + 1, 10) / 10) * float(plain(step)) for step in range(0, 30, 3)]
    for one in (rate, keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))):
        np.testing.assert_allclose(rates(one, range(0, 30, 3)), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear_rate(0, 1e-3), "^steps must be at least 1, got 0"),
        (lambda: linear_rate(5, 1e-3, 2), "^end must be in 0..1, got 2"),
        (lambda: stepped_rate(0, 1e-3, (1,), 0.1), "^steps_per_epoch must be at least 1"),
        (lambda: stepped_rate(5, 1e-3, (), 0.1), "^epochs must increase from 1 or more"),
        (lambda: stepped_rate(5, 1e-3, (3, 2), 0.1), "^epochs must increase from 1 or more"),
        (lambda: WarmUp(1e-3, 0), "^steps must be at least 1, got 0"),
        (lambda: adamw(1e-3, -1), "^weight_decay must be at least 0, got -1"),
    ],
)
def test_schedules_without_sense_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_decay_apart_from_the_gradient_and_some_do_not():
    decays, stays = keras.Variable(np.ones(3)), keras.Variable(np.ones(3))
    optimizer = adamw(0.1, 0.5, [stays])
    optimizer.build([decays, stays])
    optimizer.apply([ops.zeros(3), ops.zeros(3)])
    np.testing.assert_allclose(ops.convert_to_numpy(decays), 0.95, rtol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(stays), 1.0)


@pytest.mark.parametrize(("with_mask", "policy"), [(True, "float32"), (False, "mixed_bfloat16")])
def test_a_block_that_is_computed_again_has_the_same_gradients(with_mask, policy):
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    mask = np.array([[True] * 5, [True, True, True, False, False]]) if with_mask else None
    keras.utils.set_random_seed(0)
    block = layers.TransformerBlock(2, 12, scale=0.5, dtype=policy)
    block.build(x.shape)

    def loss(x):
        return ops.sum(ops.square(ops.cast(block(x, mask=mask), "float32")))

    variables = (None, block.qkv[0], block.down[1])
    stored = [gradient(loss, x, variable) for variable in variables]
    block.recompute = True
    again = [gradient(loss, x, variable) for variable in variables]
    for one, other in zip(stored, again, strict=True):
        assert np.abs(one).max() > 0.01
        np.testing.assert_allclose(one, other, rtol=1e-6 if policy == "float32" else 1e-2, atol=1e-6)
