"""The network of EdgeMAC: edge filter against a naive loop, one channel from RGB weights, training, padding."""

import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_retrieval
from keras_retrieval import layers, losses
from keras_retrieval.layers.pixel_normalization import PixelNormalization
from keras_retrieval.networks.backbones import BACKBONES
from keras_retrieval.networks.edge_trunk import DEVIATION, one_channel
from keras_retrieval.networks.padded import PaddedNetwork
from keras_retrieval.networks.tuple_model import TupleModel
from tests.helpers.backends import gradient

FAMILIES = ["alexnet", "vgg16", "mobilenetv3small", "convnexttiny"]  # pixels scaled before, inside, in a Sequential


def numpy(x):
    return ops.convert_to_numpy(x)


def edge_maps(shape=(2, 67, 75), seed=0):
    """Grey photos of lines on black."""
    rng = np.random.default_rng(seed)
    strengths = rng.integers(0, 256, (*shape, 1)) * (rng.random((*shape, 1)) < 0.2)
    return np.repeat(strengths, 3, axis=-1).astype("float32")


def naive(x, p, t, w=10.0, s=500.0):
    return np.array([w * one**p / (1 + math.exp(-s * (one - t))) if one else 0.0 for one in x.ravel()]).reshape(x.shape)


@pytest.mark.backend
@pytest.mark.parametrize(("p", "t"), [(0.5, 0.1), (1.0, 0.01), (0.2, 0.3)])
def test_edge_filter_is_the_published_function(p, t):
    x = np.random.default_rng(1).random((2, 5, 6, 1))
    x[0, 0] = 0
    y = numpy(layers.EdgeFilter(p=p, t=t)(x))
    np.testing.assert_allclose(y, naive(x, p, t), atol=2e-4 * 10)
    assert (y[0, 0] < 1e-6).all()


@pytest.mark.backend
def test_edge_filter_has_the_gradients_of_finite_differences():
    x = np.random.default_rng(2).uniform(0.08, 0.12, (1, 4, 4, 1))
    x[0, 0, 0] = 0
    layer = layers.EdgeFilter(t_speed=0.1)
    layer.build(x.shape)
    step = 1e-6
    by_p = (naive(x, 0.5 + step, 0.1) - naive(x, 0.5 - step, 0.1)).sum() / (2 * step)
    by_t = (naive(x, 0.5, 0.1 + step) - naive(x, 0.5, 0.1 - step)).sum() / (2 * step)
    exact, x = x, x.astype("float32")
    dp, dt = (gradient(lambda x: ops.sum(layer(x)), x, weight)[0] for weight in (layer.power, layer.scaled_t))
    np.testing.assert_allclose([dp, dt], [by_p, 0.1 * by_t], rtol=2e-3)
    dx = gradient(lambda x: ops.sum(layer(x)), x)
    by_x = (naive(exact[0, 1:] + step, 0.5, 0.1) - naive(exact[0, 1:] - step, 0.5, 0.1)) / (2 * step)
    np.testing.assert_allclose(dx[0, 1:], by_x, rtol=5e-3)
    assert (np.abs(dx[0, 0, 0]) < 1e-6).all()


@pytest.mark.backend
def test_t_moves_at_a_tenth_of_the_rate_and_stops_at_the_least():
    layer = layers.EdgeFilter(t=0.011)
    model = keras.Model(inputs := keras.Input((None, None, 1)), layer(inputs))
    # The output grows as t and p fall, so that minus the sum as the loss decreases both.
    model.compile(keras.optimizers.Adam(0.005, epsilon=0), loss=lambda _, y: -ops.sum(y))
    x = np.full((1, 4, 4, 1), 0.012)
    model.train_on_batch(x, np.zeros(1))
    np.testing.assert_allclose([0.5 - numpy(layer.p)[0], 0.011 - numpy(layer.t)[0]], [0.005, 0.0005], rtol=1e-3)
    for _ in range(4):
        model.train_on_batch(x, np.zeros(1))
    np.testing.assert_allclose(numpy(layer.t), [0.01], rtol=1e-6)


@pytest.mark.parametrize("backbone", FAMILIES)
def test_a_grey_map_in_one_channel_is_that_map_in_three(backbone):
    """Compares without the means, which shift the pixels of the RGB trunk."""
    row = BACKBONES[backbone]
    trunk = row.make(None)
    grey = one_channel(trunk, row.normalization)
    map_ = edge_maps((1, 64, 80)) / 255
    first = next(layer for layer in trunk.layers if layer.weights)
    one = next(layer for layer in grey.layers if layer.name == first.name)
    before = keras.Model(trunk.input, first.input)
    pixels = PixelNormalization.of(row.normalization)
    levels = DEVIATION * map_
    seen = numpy(before(pixels(levels))) - numpy(before(pixels(np.zeros_like(levels))))
    expected = numpy(first(seen))
    np.testing.assert_allclose(
        numpy(keras.Model(grey.input, one.output)(map_[..., :1])), expected, atol=1e-4 * np.abs(expected).max()
    )
    assert [layer.name for layer in grey.layers][1:] == [layer.name for layer in trunk.layers][1:]
    for old, new in zip(trunk.weights[1:], grey.weights[1:], strict=True):
        np.testing.assert_array_equal(numpy(old), numpy(new))
    keras.backend.clear_session()


def test_weights_of_every_origin_see_the_same():
    """The same kernels in the units and channel order of Caffe and of torch."""
    torch, caffe = (keras_retrieval.build("alexnet_gem", weights=None).get_layer("alexnet") for _ in range(2))
    kernel, *others = torch.get_weights()
    deviations = PixelNormalization.of("torch").deviation
    caffe.set_weights([(kernel / np.reshape(deviations, (3, 1)))[:, :, ::-1], *others])
    a, b = one_channel(torch, "torch").get_weights()[0], one_channel(caffe, "caffe").get_weights()[0]
    np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(a, kernel.sum(axis=2, keepdims=True), rtol=0.05, atol=0.01 * np.abs(a).max())


def test_edgemac_by_name_is_filter_trunk_and_mac(tmp_path):
    network = keras_retrieval.build("alexnet_edgemac", weights=None, dim=20)
    assert [layer.name for layer in network.layers[1:]] == [
        "normalization", "edge_filter", "alexnet", "pooling", "l2", "whitening", "l2_whitened",
    ]  # fmt: skip
    maps = edge_maps((1, 99, 120))
    filtered = layers.EdgeFilter()(maps[..., :1] / 255)
    pooled = numpy(network.get_layer("alexnet")(filtered)).max(axis=(1, 2))
    np.testing.assert_allclose(
        numpy(keras.Model(network.input, network.get_layer("l2").output)(maps)),
        pooled / np.linalg.norm(pooled),
        atol=1e-5,
    )
    network.save(tmp_path / "edgemac.keras")
    np.testing.assert_array_equal(numpy(keras_retrieval.load(tmp_path / "edgemac.keras")(maps)), numpy(network(maps)))


def test_a_padded_edge_map_has_the_descriptor_of_its_own_cells():
    network = keras_retrieval.build("alexnet_edgemac", weights=None)
    padded = PaddedNetwork(network)
    whole = edge_maps((1, 120, 120))
    sizes = np.array([[120, 120]])
    np.testing.assert_allclose(numpy(padded({"photos": whole, "sizes": sizes})), numpy(network(whole)), atol=1e-6)
    assert padded.cells(120)[120] == network.get_layer("alexnet").compute_output_shape((1, 120, 120, 1))[1]


def test_filter_and_trunk_learn_from_tuples_and_only_kernels_decay():
    keras.utils.set_random_seed(0)
    network = keras_retrieval.build("alexnet_edgemac", weights=None)
    model = TupleModel(network, l2=1e-3)
    edge_filter = network.get_layer("edge_filter")
    trunk = sum(float((numpy(weight) ** 2).sum()) for weight in network.get_layer("alexnet").trainable_weights)
    np.testing.assert_allclose(float(model.penalty()), 1e-3 / 2 * trunk, rtol=1e-5)
    model.compile(keras.optimizers.Adam(1e-3), loss=losses.ContrastiveLoss(0.7))
    photos = edge_maps((4, 80, 80)).reshape(1, 4, 80, 80, 3)
    before = [numpy(weight) for weight in network.trainable_weights]
    model.fit(
        {"photos": photos, "sizes": np.full((1, 4, 2), 80)}, np.array([[0, 0, 1, 2]]), batch_size=1, verbose=0
    )  # fmt: skip
    for old, weight in zip(before, network.trainable_weights, strict=True):
        assert np.abs(numpy(weight) - old).max() > 0, weight.path
    assert abs(float(numpy(edge_filter.t)[0]) - 0.1) <= 1.01e-4
