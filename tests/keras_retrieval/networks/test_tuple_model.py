"""TupleModel and PaddedNetwork on every backend: descriptors, penalty, precision, trainable and frozen weights."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_retrieval
from keras_retrieval import layers, losses
from keras_retrieval.networks.optimizer import decayed_rate, published_adam
from keras_retrieval.networks.padded import PaddedNetwork
from keras_retrieval.networks.precision import set_trunk_precision
from keras_retrieval.networks.tuple_model import TupleModel
from tests.helpers.backends import gradient, run, slow_on_jax
from tests.helpers.small import network
from tests.helpers.small_tuples import SIDE, batch, network_with_statistics, photos

pytestmark = pytest.mark.backend
FULL = ((SIDE, SIDE),)


def numpy(x):
    return ops.convert_to_numpy(x)


def compiled(model, learning_rate=1.0, **options):
    model.compile(keras.optimizers.SGD(learning_rate), loss=losses.ContrastiveLoss(1.5), **options)
    return model


def by_name(model):
    return {weight.path: numpy(weight) for weight in model.weights}


# Padding


def test_a_photo_that_fills_the_square_has_the_descriptor_of_the_network():
    net, pixels = network_with_statistics(whitening=True), photos(sizes=FULL)
    inputs, _ = batch("padded", pixels)
    expected = numpy(run(net, np.stack(pixels))).reshape(3, 5, -1)
    np.testing.assert_allclose(numpy(run(TupleModel(net), inputs)), expected, atol=1e-6)


def test_padding_is_not_seen_where_convolutions_see_no_border():
    net, pixels = network(), photos(1, 4)
    inputs, _ = batch("padded", pixels, 1)
    expected = np.concatenate([numpy(run(net, photo[None])) for photo in pixels]).reshape(1, 4, -1)
    np.testing.assert_allclose(numpy(run(TupleModel(net), inputs)), expected, atol=1e-6)


def test_what_stands_in_the_padding_does_not_matter():
    model, (inputs, _) = TupleModel(network()), batch("padded", photos())
    clean = numpy(model(inputs))
    inside = (np.arange(SIDE)[:, None] < inputs["sizes"][..., :1, None]) & (
        np.arange(SIDE) < inputs["sizes"][..., 1:, None]
    )
    inputs["photos"] = np.where(inside[..., None], inputs["photos"], np.uint8(200))
    np.testing.assert_array_equal(numpy(model(inputs)), clean)


@pytest.mark.parametrize("pooling", ["rmac", pytest.param("gem", marks=slow_on_jax)])
def test_every_pooling_of_a_real_trunk_takes_padded_photos(pooling):
    net = keras_retrieval.build(f"alexnet_{pooling}", weights=None)
    normalization, trunk, *head = net.layers[1:]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), dtype=np.uint8)
    x = np.array(normalization(pixels))
    x[:, :, 70:] = 0
    cells = trunk.compute_output_shape((1, 96, 70, 3))[2]

    def described(x):
        for layer in head:
            x = layer(x)
        return x

    expected = run(described, numpy(run(trunk, x))[:, :, :cells])
    found = run(PaddedNetwork(net), {"photos": pixels, "sizes": np.array([[96, 70]])})
    np.testing.assert_allclose(numpy(found), numpy(expected), atol=1e-6)


@pytest.mark.parametrize("name", ["alexnet", pytest.param("vgg16", marks=slow_on_jax)])
def test_cells_are_those_of_the_feature_map_at_every_side(name):
    padded = PaddedNetwork(keras_retrieval.build(f"{name}_gem", weights=None))
    cells = padded.cells(130)
    assert cells.shape == (131,)
    for side in (64, 95, 127):
        assert cells[side] == run(padded.trunk[0], np.zeros((1, side, 33, 3), "float32")).shape[1]
    assert cells[0] == 1


@pytest.mark.parametrize("size", [(0, 0), (64, 3), *(pytest.param(s, marks=slow_on_jax) for s in ((1, 1), (2, 64)))])
def test_photos_too_small_for_a_cell_give_numbers_and_gradients(size):
    net = network()
    padded = PaddedNetwork(net)
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype("float32")
    sizes = np.array([size, (SIDE, SIDE)], "int32")
    found = gradient(lambda x: ops.sum(padded({"photos": x, "sizes": sizes})[:, 0]), pixels)
    assert np.isfinite(numpy(padded({"photos": pixels, "sizes": sizes}))).all()
    assert np.isfinite(found).all()
    assert np.abs(found[1]).max() > 0


def test_networks_that_cannot_be_padded_are_named():
    inputs = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match=r"odd .* not a chain of layers with one named 'pooling'"):
        TupleModel(keras.Model(inputs, layers.GeM()(inputs), name="odd"))
    x = layers.GeM(name="pooling")(keras.layers.Add()([inputs, keras.layers.ReLU()(inputs)]))
    with pytest.raises(ValueError, match="forked cannot take padded photos"):
        TupleModel(keras.Model(inputs, x, name="forked"))


# Training


def test_a_step_follows_the_gradient_of_the_loss_photo_by_photo():
    net, pixels = network(), photos(2)
    inputs, objects = batch("padded", pixels, 2)
    l2 = 0.1
    before = by_name(net)

    def loss(_):
        rows = [net(ops.convert_to_tensor(photo[None]), training=False) for photo in pixels]
        value = losses.ContrastiveLoss(1.5)(objects, ops.reshape(ops.concatenate(rows, axis=0), (2, 5, -1)))
        weights = [weight for weight in net.trainable_weights if not weight.path.endswith("/p")]
        return value + l2 / 2 * sum(ops.sum(ops.square(ops.convert_to_tensor(weight))) for weight in weights)

    first, *_, exponent = net.trainable_weights
    expected = {weight.path: gradient(loss, np.zeros(1), weight) for weight in (first, exponent)}
    assert exponent.path == "pooling/p"
    compiled(TupleModel(net, l2)).train_on_batch(inputs, objects)
    for path in expected:
        moved = before[path] - by_name(net)[path]
        np.testing.assert_allclose(moved, expected[path], rtol=1e-4, atol=1e-5 * np.abs(expected[path]).max() + 1e-6)


def test_the_penalty_is_of_training_alone_and_spares_p_and_frozen_layers():
    net = network_with_statistics()
    net.get_layer("trunk").get_layer("first").trainable = False
    inputs, objects = batch("padded", photos())
    trained = compiled(TupleModel(net, l2=0.3), learning_rate=0.0)
    names = ("statistics/gamma", "statistics/beta", "second/kernel", "second/bias")
    weights = [value for path, value in by_name(net).items() if path.endswith(names)]
    assert len(weights) == 4
    penalty = 0.15 * sum(np.square(weight).sum() for weight in weights)
    plain = float(trained.test_on_batch(inputs, objects))
    np.testing.assert_allclose(float(trained.train_on_batch(inputs, objects)) - plain, penalty, rtol=1e-4)


def test_statistics_stay_and_everything_else_learns():
    net = network_with_statistics(whitening=True)
    before = by_name(net)
    compiled(TupleModel(net), 1e-2).fit(*batch("padded", photos()), epochs=2, batch_size=2, verbose=0)
    for path, value in by_name(net).items():
        assert np.array_equal(value, before[path]) == ("moving" in path or "seed" in path), path


def test_frozen_layers_stay():
    net = network()
    net.get_layer("trunk").trainable = False
    before = by_name(net)
    compiled(TupleModel(net)).fit(*batch("padded", photos()), verbose=0)
    changed = [path for path, value in by_name(net).items() if not np.array_equal(value, before[path])]
    assert changed == ["pooling/p"]


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("policy", "jit", "tolerance"),
    [pytest.param("mixed_bfloat16", False, 0.2, marks=slow_on_jax), ("float32", True, 1e-4)],
)
def test_bfloat16_and_compilation_train_alike(policy, jit, tolerance):
    found = []
    for options in (("float32", False), (policy, jit)):
        net = network()
        before = np.concatenate([weight.ravel() for weight in net.get_weights()])
        set_trunk_precision(net, options[0])
        model = compiled(TupleModel(net), jit_compile=options[1])
        loss = float(model.train_on_batch(*batch("padded", photos())))
        found.append((loss, before - np.concatenate([weight.ravel() for weight in net.get_weights()])))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=min(tolerance, 0.1))
    assert np.linalg.norm(found[1][1] - found[0][1]) < tolerance * np.linalg.norm(found[0][1])


def test_a_negative_penalty_is_refused():
    with pytest.raises(ValueError, match=r"^l2 must be at least 0, got -1"):
        TupleModel(network(), l2=-1)


# Optimizer and precision


def test_the_rate_decays_from_epoch_to_epoch():
    rate = decayed_rate(steps_per_epoch=400, learning_rate=1e-6, decay=0.01)
    for step, epoch in ((0, 0), (399, 0), (400, 1), (4000, 10), (4399, 10)):
        np.testing.assert_allclose(float(rate(step)), 1e-6 * np.exp(-0.01 * epoch), rtol=1e-5)
    optimizer = published_adam(400, 5e-7)
    assert (optimizer.epsilon, float(optimizer.learning_rate), optimizer.weight_decay) == (
        1e-8,
        pytest.approx(5e-7),
        None,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps_per_epoch": 0}, "^steps_per_epoch must be at least 1, got 0"),
        ({"steps_per_epoch": 1, "decay": -1}, "^decay must be at least 0, got -1"),
    ],
)
def test_a_rate_without_steps_or_that_grows_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        decayed_rate(**options)


def test_precision_goes_there_and_back(tmp_path):
    net = network()
    pixels = np.stack(photos(sizes=FULL))
    exact = numpy(net(pixels))
    set_trunk_precision(net, "mixed_bfloat16")
    half = numpy(net(pixels))
    assert 0 < np.abs(half - exact).max() < 0.02
    set_trunk_precision(net, "float32")
    net.save(tmp_path / "net.keras")
    np.testing.assert_allclose(numpy(keras_retrieval.load(tmp_path / "net.keras")(pixels)), exact, atol=1e-6)
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="flat")
    with pytest.raises(ValueError, match="flat has no trunk"):
        set_trunk_precision(flat, "mixed_bfloat16")
