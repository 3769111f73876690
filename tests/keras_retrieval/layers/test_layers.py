"""Every layer, from one table: shapes, round trips, precision, compilation, masks, one training step, goldens."""

import math
import os
from fractions import Fraction
from functools import partial
from math import floor

import keras
import numpy as np
import pytest
from keras import ops

from keras_retrieval import layers
from keras_retrieval.layers.gem import gem_layers
from keras_retrieval.layers.region_grid import region_masks
from tests.helpers.backends import call, gradient, run, value_and_gradient

pytestmark = pytest.mark.backend
MAP = (2, 9, 13, 8)
jax = keras.backend.backend() == "jax"


def few_proposals():
    return layers.RegionProposals(6, scales=(2, 4), filters=4, candidates=30)


# name -> (a new layer, input shape, whether it takes a mask of cells)
ROWS = {
    "mac": (lambda **k: layers.MAC(**k), MAP, True),
    "spoc": (lambda **k: layers.SPoC(**k), MAP, True),
    "normalized mean": (lambda **k: layers.NormalizedMean(**k), MAP, True),
    "gem": (lambda **k: layers.GeM(**k), MAP, True),
    "gem fast": (lambda **k: layers.GeM(p_speed=10, **k), MAP, True),
    "gemmp": (lambda **k: layers.GeM(per_channel=True, **k), MAP, True),
    "rmac": (lambda **k: layers.RMAC(**k), MAP, True),
    "rmac Tolias": (lambda **k: layers.RMAC(levels=4, whole_map=False, **k), MAP, True),
    "rmac whitened": (lambda **k: layers.RMAC(whitening=layers.Whitening(5), **k), MAP, True),
    "rmac proposed": (lambda **k: layers.RMAC(proposals=few_proposals(), **k), MAP, True),
    "regional gem": (lambda **k: layers.RegionalPooling(layers.GeM(), **k), MAP, True),
    "regional spoc": (lambda **k: layers.RegionalPooling(layers.SPoC(), levels=2, **k), MAP, True),
    "netvlad": (lambda **k: layers.NetVLAD(clusters=6, **k), MAP, True),
    "class token": (lambda **k: layers.ClassToken(**k), MAP, True),
    "class token and mean": (lambda **k: layers.ClassToken(mean=True, **k), MAP, True),
    "salad": (lambda **k: layers.SALAD(clusters=3, features=5, token=6, hidden=7, **k), MAP, True),
    "salad projected": (lambda **k: layers.SALAD(3, 5, 6, 7, projection=9, **k), MAP, True),
    "boq": (lambda **k: layers.BoQ(width=64, queries=3, rows=2, **k), MAP, True),
    "cosplace": (lambda **k: layers.CosPlace(units=5, **k), MAP, True),
    "mixvpr": (lambda **k: layers.MixVPR(channels=5, rows=2, mixers=2, **k), MAP, False),
    "patches": (lambda **k: layers.PatchEmbedding(6, 3, **k), (2, 9, 12, 3), False),
    "fit to patches": (lambda **k: layers.FitToPatches(4, **k), (2, 9, 13, 3), False),
    "fixed size": (lambda **k: layers.FixedSize(7, 5, **k), (2, 9, 13, 3), False),
    "tokens": (lambda **k: layers.TokenSequence(5, registers=2, **k), MAP, False),
    "tokens antialiased": (lambda **k: layers.TokenSequence(15, interpolation="antialias", **k), MAP, False),
    "tokens of one size": (lambda **k: layers.TokenSequence(5, interpolation="size", **k), MAP, False),
    "block": (lambda **k: layers.TransformerBlock(2, 12, scale=0.3, **k), (2, 11, 8), False),
    "block gated": (lambda **k: layers.TransformerBlock(2, 12, gated=True, scale=0.3, **k), (2, 11, 8), False),
    "rotary": (lambda **k: layers.RotaryPositions(8, **k), MAP, False),
    "token map": (lambda **k: layers.TokenMap(class_token=True, **k), [(2, 118, 8), MAP], False),
    "depthwise": (lambda **k: layers.DepthwiseConvolution(8, 3, groups=8, **k), MAP, False),
    "whitening": (lambda **k: layers.Whitening(dim=3, **k), (4, 8), False),
    "l2": (lambda **k: layers.L2Normalization(**k), (4, 8), False),
    "pixels": (lambda **k: layers.PixelNormalization.of("caffe", **k), (2, 9, 13, 3), False),
    "edge strength": (lambda **k: layers.EdgeStrength(**k), (2, 9, 13, 3), False),
    "edge filter": (lambda **k: layers.EdgeFilter(**k), (2, 9, 13, 1), False),
    "rescaling": (lambda **k: layers.Rescaling(0.7, **k), (2, 9, 13, 3), False),
    "rescaling by size": (lambda **k: layers.Rescaling(0.7, by_size=True, **k), (2, 9, 13, 3), False),
    "superglobal": (lambda **k: layers.SuperGlobal(units=5, **k), MAP, True),
    "relup": (lambda **k: layers.ReLUP(0.3, **k), (4, 8), False),
    "power mean of the largest": (lambda **k: layers.PowerMean(math.inf, **k), [(4, 8), (4, 8)], False),
    "power mean": (lambda **k: layers.PowerMean(3.0, **k), [(4, 8), (4, 8)], False),
}
rows = pytest.mark.parametrize("name", ROWS)
masked_rows = pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[2]])
any_size_rows = pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[2] and "salad" not in name])


def make(name, **options):
    keras.utils.set_random_seed(len(name))
    factory, shape, _ = ROWS[name]
    shapes = shape if isinstance(shape, list) else [shape]
    rng = np.random.default_rng(len(name))
    arrays = [rng.gamma(0.5, 2.0, one).astype("float32") for one in shapes]
    return factory(**options), arrays if isinstance(shape, list) else arrays[0]


def numpy(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def functional(layer, x):
    """The layer in a model where only the number of channels is known."""
    shapes = [a.shape for a in x] if isinstance(x, list) else [x.shape]
    if isinstance(layer, layers.MixVPR):
        return keras.Sequential([keras.Input(x.shape[1:]), layer])
    inputs = [keras.Input((*[None] * (len(shape) - 2), shape[-1])) for shape in shapes]
    inputs = inputs if isinstance(x, list) else inputs[0]
    return keras.Model(inputs, layer(inputs))


@pytest.mark.skipif(jax, reason="shapes are computed alike on all backends, and JAX compiles the layer again")
@rows
def test_output_shape(name):
    layer, x = make(name)
    shape = [a.shape for a in x] if isinstance(x, list) else x.shape
    y = call(layer, x)
    assert tuple(layer.compute_output_shape(shape)) == tuple(y.shape)
    assert np.isfinite(numpy(y)).all()


@rows
def test_config_round_trip(name):
    layer, _ = make(name)
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras writes the files of all backends alike")
@rows
def test_saved_model_gives_the_same(name, tmp_path):
    layer, x = make(name)
    model = functional(layer, x)
    for weight in layer.weights:  # other than the initial values, so that loading is tested
        weight.assign(numpy(weight) * 1.1 + 0.01)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(run(model, x)), numpy(run(loaded, x)))


@pytest.mark.skipif(jax, reason="Keras casts the tensors of all backends alike")
@pytest.mark.kernels
@rows
def test_mixed_bfloat16(name):
    layer, x = make(name)
    exact = numpy(call(layer, x))
    mixed = ROWS[name][0](dtype="mixed_bfloat16")
    y = call(mixed, x)
    assert keras.backend.standardize_dtype(y.dtype) == ("float32" if name == "rotary" else "bfloat16")
    if mixed.weights:  # random in each layer
        mixed.set_weights([numpy(weight) for weight in layer.weights])
        y = call(mixed, x)
    np.testing.assert_allclose(numpy(y), exact, rtol=0.03, atol=0.03 * np.abs(exact).max())
    assert all(keras.backend.standardize_dtype(weight.dtype) == "float32" for weight in mixed.weights)


LEARNING = [
    *("gem", "gem fast", "gemmp", "rmac whitened", "regional gem", "netvlad", "whitening", "edge filter"),
    *(
        "salad",
        "salad projected",
        "boq",
        "cosplace",
        "superglobal",
        "mixvpr",
        "patches",
        "tokens",
        "block",
        "block gated",
    ),
]


# On JAX all tests compile layers: those that learn or take masks have others.
COMPILED = [name for name, row in ROWS.items() if not jax or not (row[2] or name in LEARNING)]


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_gives_the_same(name):
    layer, x = make(name)
    model = functional(layer, x)
    model.compile(jit_compile=True)
    expected = numpy(run(model, x))  # operation by operation, except on JAX, which would compile each of them
    np.testing.assert_allclose(model.predict_on_batch(x), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.kernels
@pytest.mark.parametrize("name", LEARNING)
def test_training_step_moves_every_weight(name):
    layer, x = make(name)
    model = functional(layer, x)
    assert layer.trainable_weights
    before = [numpy(weight) for weight in layer.trainable_weights]
    model.compile(
        keras.optimizers.SGD(0.1), loss=lambda _, y: ops.sum(y * np.cos(np.arange(y.shape[-1]) * 1.7).astype("float32"))
    )
    loss = model.train_on_batch(x, np.zeros(len(x)))
    assert np.isfinite(loss)
    for old, weight in zip(before, layer.trainable_weights, strict=True):
        assert np.isfinite(numpy(weight)).all()
        if weight.name != "dust_bin":  # Sinkhorn's first step cancels it
            assert np.abs(numpy(weight) - old).max() > 0, weight.path


@masked_rows
def test_padded_map_gives_the_pooling_of_the_unpadded(name):
    layer, x = make(name)
    sizes = [(9, 13), (5, 4), (1, 6), (9, 2)][3 * jax :]  # a program for each
    x = np.concatenate([x, 3 * x])[3 * jax :]
    mask = np.zeros((len(x), 9, 13), bool)
    for photo, (h, w) in enumerate(sizes):
        mask[photo, :h, :w] = True
    padded = np.where(mask[..., None], x, np.nan).astype("float32")
    got = numpy(call(layer, padded, mask))
    for photo, (h, w) in enumerate(sizes):
        alone = numpy(call(layer, x[photo : photo + 1, :h, :w]))
        np.testing.assert_allclose(got[photo], alone[0], rtol=1e-5, atol=1e-5)


@masked_rows
def test_padding_has_no_gradient(name):
    layer, x = make(name)
    mask = np.zeros(x.shape[:3], bool)
    mask[:, :6, :7] = True
    layer.build(x.shape)

    def uneven(x):  # the squares of a unit vector have a constant sum
        y = ops.square(layer(x, mask=mask))
        return ops.sum(y * ops.cast(1 + ops.arange(y.shape[-1]) % 3, "float32"))

    dx = gradient(uneven, x)
    assert np.isfinite(dx).all()
    assert np.abs(dx[mask]).max() > 0
    assert np.abs(dx[~mask]).max() == 0


@pytest.mark.skipif(jax, reason="a program for each size takes JAX a second, and padded maps have several sizes, too")
@any_size_rows
def test_any_size_of_map(name):
    layer, x = make(name)
    model = functional(layer, x)
    for size in ((1, 1), (3, 1), (7, 40)):
        small = np.random.default_rng(0).gamma(0.5, 2.0, (2, *size, 8)).astype("float32")
        y = numpy(call(layer, small))
        assert np.isfinite(y).all()
        np.testing.assert_allclose(model.predict_on_batch(small), y, rtol=1e-5, atol=1e-5)


@masked_rows
def test_all_zero_map_is_finite_with_finite_gradient(name):
    layer, x = make(name)
    layer.build(x.shape)
    l2 = layers.L2Normalization()
    value, dx = value_and_gradient(lambda x: ops.sum(l2(layer(x))))(np.zeros_like(x))
    assert np.isfinite(value)
    assert np.isfinite(dx).all()


# Goldens


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "goldens" / "reference_layers.npz")


@pytest.mark.parametrize("k", range(0, 8, 4 if jax else 1))
def test_poolings_equal_the_published_code(golden, k):
    x, p = golden[f"pool{k}_x"], float(golden[f"pool{k}_p"])
    gemmp = layers.GeM(per_channel=True)
    gemmp.build(x.shape)
    gemmp.set_p(golden[f"pool{k}_p_per_channel"])
    found = {
        "mac": call(layers.MAC(), x),
        "spoc": call(layers.SPoC(), x),
        "gem": call(layers.GeM(p), x),
        "gemmp": call(gemmp, x),
        "rmac_L3": call(layers.RMAC(), x),
        "l2n": call(layers.L2Normalization(), x.transpose(0, 3, 1, 2).reshape(len(x), -1)),
    }
    for what, y in found.items():
        expected = golden[f"pool{k}_{what}"]
        if what == "l2n" and not np.allclose(numpy(y), expected, atol=1e-5):
            y = call(layers.L2Normalization(), x.reshape(len(x), -1))
        np.testing.assert_allclose(numpy(y), expected, atol=1e-5, rtol=0, err_msg=what)


@pytest.mark.parametrize("k", range(0, 8, 4 if jax else 1))
def test_regional_pooling_equals_the_published_code(golden, k):
    x = golden[f"pool{k}_x"]
    layer = layers.RegionalPooling(layers.GeM(float(golden[f"pool{k}_p"])), whitening=layers.Whitening())
    layer.build(x.shape)
    layer.whitening.kernel.assign(golden[f"pool{k}_regional_kernel"])
    layer.whitening.bias.assign(golden[f"pool{k}_regional_bias"])
    y = numpy(run(lambda x: layers.L2Normalization()(layer(x)), x))
    np.testing.assert_allclose(y, golden[f"pool{k}_regional_gem_whitened_L3"], atol=1e-5, rtol=0)
    vectors, _, exist = run(layer.regions, x)
    assert set(numpy(exist).sum(1)) == {int(golden[f"pool{k}_regions_count"])}
    assert vectors.shape[1] == int(golden[f"pool{k}_regions_count"])


def test_gem_gradients_equal_the_published_code(golden):
    x, upstream = golden["gemgrad_x"], golden["gemgrad_upstream"]
    layer = layers.GeM(float(golden["gemgrad_p"]))
    layer.build(x.shape)
    dx = gradient(lambda x: ops.sum(layer(x) * upstream), x)
    dp = gradient(lambda x: ops.sum(layer(x) * upstream), x, layer.scaled_p)
    np.testing.assert_allclose(dx, golden["gemgrad_dx"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(dp, golden["gemgrad_dp"], atol=1e-5, rtol=0)


# GeM


def test_gem_gradient_of_p_follows_the_formula():
    x = np.random.default_rng(1).gamma(0.5, 2.0, (1, 4, 5, 1)).astype("float32") + 1e-3
    layer = layers.GeM(2.5)
    layer.build(x.shape)
    power, p = x.astype("float64") ** 2.5, 2.5
    f = power.mean() ** (1 / p)
    expected = f / p**2 * (np.log(x.size / power.sum()) + p * (power * np.log(x)).sum() / power.sum())
    np.testing.assert_allclose(gradient(lambda x: ops.sum(layer(x)), x, layer.scaled_p), [expected], rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4, 1e8])
def test_gem_stays_finite_and_scales_with_its_input(scale):
    x = np.random.default_rng(2).gamma(0.5, 2.0, (1, 6, 6, 3)).astype("float32") + 0.1
    layer = layers.GeM(6.0)
    np.testing.assert_allclose(numpy(call(layer, x * scale)), numpy(call(layer, x)) * scale, rtol=1e-4)


def test_gem_goes_from_the_mean_to_the_maximum():
    _, x = make("gem")
    np.testing.assert_allclose(numpy(call(layers.GeM(1.0), x)), numpy(call(layers.SPoC(), x)), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(numpy(call(layers.GeM(400.0), x)), numpy(call(layers.MAC(), x)), rtol=0.02)


@pytest.mark.parametrize("per_channel", [False, True])
def test_p_speed_changes_neither_p_nor_the_pooling(per_channel):
    _, x = make("gem")
    plain, fast = (layers.GeM(2.5, per_channel, p_speed=speed) for speed in (1, 100))
    np.testing.assert_allclose(numpy(call(fast, x)), numpy(call(plain, x)), rtol=1e-5)
    exponents = np.linspace(1, 4, 8) if per_channel else 3.5
    fast.set_p(exponents)
    fast.set_p_speed(10)
    np.testing.assert_allclose(numpy(fast.p), np.broadcast_to(exponents, fast.p.shape), rtol=1e-6)
    np.testing.assert_allclose(numpy(fast.scaled_p) * 10, numpy(fast.p), rtol=1e-6)
    assert fast.get_config()["p_speed"] == 10


@pytest.mark.parametrize(
    ("optimizer", "times"), [(keras.optimizers.Adam(1e-3, epsilon=0), 10), (keras.optimizers.SGD(1e-3), 100)]
)
def test_p_moves_as_many_times_farther_as_is_said(optimizer, times):
    _, x = make("gem")
    moved = []
    for speed in (1, 10):
        layer = layers.GeM(2.0, p_speed=speed)
        model = functional(layer, x)
        model.compile(type(optimizer).from_config(optimizer.get_config()), loss=lambda _, y: ops.sum(y))
        model.train_on_batch(x, np.zeros(len(x)))
        moved.append(numpy(layer.p)[0] - 2)
    np.testing.assert_allclose(moved[1] / moved[0], times, rtol=0.01)


def test_a_network_of_before_p_speed_keeps_its_p():
    config = {key: value for key, value in layers.GeM(p=2.5).get_config().items() if key != "p_speed"}
    layer = layers.GeM.from_config(config)
    layer.build(MAP)
    layer.set_weights([np.array([4.0])])
    assert numpy(layer.p).tolist() == [4.0]


def test_all_gems_of_a_network_are_found():
    inputs = keras.Input((None, None, 8))
    own, inner = layers.GeM(), layers.GeM(per_channel=True)
    network = keras.Model(inputs, [own(inputs), layers.RegionalPooling(inner)(inputs), layers.MAC()(inputs)])
    assert {id(layer) for layer in gem_layers(network)} == {id(own), id(inner)}


def test_frozen_p_is_not_trained():
    layer = layers.GeM(trainable_p=False)
    layer.build(MAP)
    assert layer.trainable_weights == []
    assert len(layer.weights) == 1


# The grid of R-MAC


def exact_grid(h, w, level):
    """The formulas of the grid in exact fractions: (side, starts of rows, starts of columns)."""
    short, long = min(h, w), max(h, w)
    costs = [abs(1 - Fraction(long - short, (m - 1) * short) - Fraction(2, 5)) for m in range(2, 8)]
    extra = 0 if h == w else costs.index(min(costs)) + 1
    side = 2 * short // (level + 1)
    half = floor(Fraction(side, 2) - 1)
    starts = []
    for length in (h, w):
        n = level + (extra if length == long else 0)
        step = Fraction(length - side, n - 1) if n > 1 else Fraction(0)
        starts.append([floor(half + i * step) - half for i in range(n)])
    return side, *starts


@pytest.mark.parametrize("level", [1, 2, 3, 5])
def test_grid_is_the_published_one_on_every_size(level):
    for h in range(1, 68):
        for w in range(1, 68):
            masks = region_masks(h, w, level, (h, w))
            side, *starts = exact_grid(h, w, level)
            for mask, start in zip(masks, starts, strict=True):
                assert len(mask) == len(start)
                assert mask.sum(1).tolist() == [side] * len(start), (h, w)
                assert side == 0 or mask.argmax(1).tolist() == start, (h, w)


def test_grid_of_one_size_per_photo_is_the_grid_of_each():
    sizes = np.array([(h, w) for h in range(1, 30) for w in range(1, 30)], "int32")
    height, width = ops.convert_to_tensor(sizes[:, 0]), ops.convert_to_tensor(sizes[:, 1])
    for level in (1, 2, 3):
        masks = run(partial(region_masks, level=level, cells=(30, 30)), height, width)
        rows, columns = (numpy(mask).astype(bool) for mask in masks)
        for photo, (h, w) in enumerate(sizes.tolist()):
            for mask, alone in zip((rows[photo], columns[photo]), region_masks(h, w, level, (30, 30)), strict=True):
                assert (mask[: len(alone)] == alone).all()
                assert not mask[len(alone) :].any()


def test_grid_of_a_map_of_which_one_side_is_known():
    for height, width in ((9, 13), (13, 9), (1, 4), (5, 1)):
        for level in (1, 3):
            expected = region_masks(height, width, level, (height, width))
            for sides in ((height, ops.convert_to_tensor(width)), (ops.convert_to_tensor(height), width)):
                masks = region_masks(*sides, level, (height, width))
                for mask, alone in zip(masks, expected, strict=True):
                    np.testing.assert_array_equal(numpy(mask).astype(bool)[: len(alone)], alone)


@pytest.mark.parametrize(("size", "counts"), [((24, 32), (2, 6, 12)), ((7, 7), (1, 4, 9)), ((10, 32), (5, 12, 21))])
def test_number_of_regions(size, counts):
    for level, count in enumerate(counts, start=1):
        rows, columns = region_masks(*size, level, size)
        assert len(rows) * len(columns) == count


@pytest.mark.parametrize("shape", [(2, 12, 7, 4), (1, 6, 15, 3)])
def test_rmac_equals_a_loop_over_regions(shape):
    x = np.random.default_rng(3).normal(size=shape).astype("float32")
    expected = np.zeros((shape[0], shape[-1]))
    for level in (1, 2, 3):
        side, rows, columns = exact_grid(*shape[1:3], level)
        for top in rows:
            for left in columns:
                region = x[:, top : top + side, left : left + side].max(axis=(1, 2))
                expected += region / (np.linalg.norm(region, axis=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(numpy(call(layers.RMAC(whole_map=False), x)), expected, rtol=1e-5, atol=1e-5)


# NetVLAD


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_netvlad_equals_a_loop_over_clusters(version):
    _, x = make("netvlad")
    # Initialised from other cells: the residual of a cluster with a single cell would be only rounding.
    others = np.random.default_rng(1).standard_normal((400, 8), "float32")
    layer = layers.NetVLAD(clusters=6).initialize(others, version)
    w, b, c = (numpy(weight).astype("float64") for weight in (layer.kernel, layer.bias, layer.centroids))
    for photo, y in zip(x, numpy(call(layer, x)), strict=True):
        local = photo.reshape(-1, 8).astype("float64")
        local = local / (np.linalg.norm(local, axis=1, keepdims=True) + 1e-6)
        logits = np.exp(local @ w + b)
        soft = logits / logits.sum(1, keepdims=True)
        vlad = []
        for k in range(6):
            residual = sum(soft[i, k] * (local[i] - c[k]) for i in range(len(local)))
            vlad.append(residual / np.sqrt(residual @ residual + 1e-12))
        vlad = np.concatenate(vlad)
        np.testing.assert_allclose(y, vlad / np.sqrt(vlad @ vlad + 1e-12), rtol=0, atol=1e-6)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_netvlad_starts_with_nearly_hard_assignment_to_the_right_cluster(version):
    rng = np.random.default_rng(4)
    centres = np.eye(8)[:5]
    x = (centres[rng.integers(0, 5, 2000)] + rng.normal(0, 0.05, (2000, 8))).astype("float32")
    layer = layers.NetVLAD(clusters=5).initialize(x, version)
    centroids = numpy(layer.centroids)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    logits = unit @ numpy(layer.kernel) + numpy(layer.bias)
    second, best = np.sort(logits, axis=1)[:, -2:].T
    np.testing.assert_allclose(np.mean(best - second), -np.log(0.01), rtol=0.01)
    nearest = ((unit[:, None] - centroids) ** 2).sum(-1).argmin(1)
    assert (logits.argmax(1) == nearest).mean() > 0.99
    assert np.sort(np.abs(centroids @ centres.T).max(1))[0] > 0.9  # one centroid on each of the five centres
    if version == "v1":
        assert not numpy(layer.bias).any()


def test_netvlad_with_one_cluster_is_the_mean_residual():
    rng = np.random.default_rng(5)
    x, photos = (rng.normal(size=(batch, 3, 3, 4)).astype("float32") for batch in (2, 5))
    layer = layers.NetVLAD(clusters=1).initialize(photos.reshape(-1, 4))
    np.testing.assert_allclose(
        numpy(layer.centroids)[0], rows_of_unit_length(photos.reshape(-1, 4)).mean(axis=0), atol=1e-6
    )
    cells = rows_of_unit_length(x.reshape(2, 9, 4).astype("float64"))
    residual = (cells - numpy(layer.centroids)).mean(axis=1)
    assert np.linalg.norm(residual, axis=1).min() > 0.01
    np.testing.assert_allclose(numpy(call(layer, x)), rows_of_unit_length(residual), atol=1e-5)


def rows_of_unit_length(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_netvlad_is_finite_where_the_residuals_cancel():
    x = np.random.default_rng(5).normal(size=(1, 3, 3, 4)).astype("float32")
    layer = layers.NetVLAD(clusters=1).initialize(x.reshape(-1, 4))
    assert np.isfinite(numpy(call(layer, x))).all()


@pytest.mark.parametrize(
    ("descriptors", "message"),
    [
        (np.zeros((10, 8)), "at least 4 different rows, one per cluster, got 1"),
        (np.full((10, 8), np.nan), "finite array"),
        (np.ones(8), r"finite array \(n, D\), got the shape \(8,\)"),
        (np.random.default_rng(0).normal(size=(20, 7)), "must have 8 channels as this layer, got 7"),
    ],
)
def test_netvlad_refuses_descriptors_it_cannot_use(descriptors, message):
    layer = layers.NetVLAD(clusters=4)
    layer.build((None, None, None, 8))
    with pytest.raises(ValueError, match=message):
        layer.initialize(descriptors)


def test_netvlad_refuses_an_unknown_version():
    with pytest.raises(ValueError, match="'v1' or 'v2'"):
        layers.NetVLAD(clusters=1).initialize(np.eye(4), "v3")


# Whitening, L2, pixels, scales


def test_whitening_starts_as_the_identity_and_takes_a_projection():
    x = np.random.default_rng(6).normal(size=(5, 8)).astype("float32")
    layer = layers.Whitening(dim=3)
    np.testing.assert_allclose(numpy(layer(x)), x[:, :3], atol=1e-6)
    m, P = np.arange(8.0), np.random.default_rng(7).normal(size=(8, 8))
    layer.set_projection(m, P)
    np.testing.assert_allclose(numpy(layer(x)), ((x - m) @ P.T)[:, :3], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"needs a mean of the shape \(8,\)"):
        layer.set_projection(m, P[:2])


def test_l2_adds_epsilon_to_the_norm():
    x = np.array([[3e-6, 4e-6], [3.0, 4.0], [0.0, 0.0]], "float32")
    np.testing.assert_allclose(numpy(layers.L2Normalization()(x)), [[0.5, 2 / 3], [0.6, 0.8], [0, 0]], rtol=1e-5)


def test_pixel_conventions():
    rgb = np.array([[[[255.0, 0.0, 127.5]]]])
    torch = (np.array([1, 0, 0.5]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    caffe = np.array([127.5 - 103.939, -116.779, 255 - 123.68])
    np.testing.assert_allclose(numpy(layers.PixelNormalization.of("torch")(rgb))[0, 0, 0], torch, rtol=1e-5)
    np.testing.assert_allclose(numpy(layers.PixelNormalization.of("caffe")(rgb))[0, 0, 0], caffe, rtol=1e-5)
    np.testing.assert_allclose(numpy(layers.PixelNormalization.of("none")(rgb)), rgb)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(8, 12), (30, 20)])
def test_rescaling_equals_the_backend(size, antialias):
    x = np.random.default_rng(8).uniform(0, 255, (2, *size, 3)).astype("float32")
    y = numpy(call(layers.Rescaling(0.5, antialias), x))
    expected = ops.image.resize(x, (size[0] // 2, size[1] // 2), antialias=antialias)
    np.testing.assert_allclose(y, numpy(expected), atol=1e-3)


def test_power_mean():
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])
    np.testing.assert_allclose(numpy(layers.PowerMean()([a, b])), [[0.5, 1.0]])
    np.testing.assert_allclose(numpy(layers.PowerMean(2.0)([a, b])), [[0.5**0.5, 2**0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: layers.GeM(0.0), "^p of GeM must be above 0, got 0"),
        (lambda: layers.GeM(math.inf), "^p of GeM must be a finite number, got inf"),
        (lambda: layers.GeM(p_speed=0), "^p_speed of GeM must be above 0, got 0"),
        (lambda: layers.GeM().set_p_speed(-1), "^p_speed of GeM must be above 0, got -1"),
        (lambda: layers.RMAC(levels=0), "^levels .*at least 1, got 0"),
        (lambda: layers.NetVLAD(clusters=0), "^clusters .*at least 1, got 0"),
        (lambda: layers.Whitening(dim=0), "^dim .*at least 1, got 0"),
        (lambda: layers.Whitening(dim=9)(np.zeros((1, 8))), "^dim .*at most 8.*, got 9"),
        (lambda: layers.Whitening().build((None, None)), "known number of dimensions"),
        (lambda: layers.Rescaling(0), "^factor must be above 0, got 0"),
        (lambda: layers.EdgeFilter(p=0), "^p of the edge filter must be above 0, got 0"),
        (lambda: layers.EdgeFilter(t=0.001), "^t of the edge filter must be at least 0.01, got 0.001"),
        (lambda: layers.PowerMean(0), "^p of the power mean must be above 0, got 0"),
        (lambda: layers.PixelNormalization([0, 0], [1, 1, 1]), "must be 3 numbers each"),
        (lambda: layers.PixelNormalization([0, 0, 0], [1, 1, 1], "gbr"), "'rgb' or 'bgr'"),
        (lambda: layers.PixelNormalization.of("tf"), "torch, caffe, none"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_runs_on_the_backend_that_was_asked_for():
    assert keras.backend.backend() == os.environ.get("KERAS_BACKEND", "tensorflow")


# Vision transformers


def test_salad_equals_the_algorithm_step_by_step():
    layer, x = make("salad")
    layer.build(x.shape)
    w = {weight.name: numpy(weight).astype("float64") for weight in layer.weights}

    def perceptron(name, x):
        hidden = np.maximum(x @ w[f"{name}1_kernel"] + w[f"{name}1_bias"], 0)
        return hidden @ w[f"{name}2_kernel"] + w[f"{name}2_bias"]

    def unit(v):
        return v / np.linalg.norm(v)

    for photo, found in zip(x.astype("float64"), numpy(call(layer, x)), strict=True):
        patches, token = photo[..., :4].reshape(-1, 4), photo[0, 0, 4:]
        n, m = len(patches), layer.clusters
        kernel = np.exp(np.concatenate([perceptron("score", patches), np.ones((n, 1))], axis=1))
        mass = np.array([*[1.0] * m, n - m]) / (n + m)
        rows, columns = np.ones(n), np.ones(m + 1)
        for _ in range(3):
            columns = mass / (rows @ kernel)
            rows = 1 / (n + m) / (kernel @ columns)
        plan = (rows[:, None] * kernel * columns * (n + m))[:, :-1]
        clusters = perceptron("feature", patches).T @ plan
        expected = [unit(perceptron("token", token)), (clusters / np.linalg.norm(clusters, axis=0)).ravel()]
        np.testing.assert_allclose(found, unit(np.concatenate(expected)), atol=1e-6)


def test_superglobal_equals_loops():
    layer, x = make("superglobal")
    layer.build(x.shape)
    kernel, bias = (numpy(weight).astype("float64") for weight in layer.weights)
    for photo, found in zip(x.astype("float64"), numpy(call(layer, x)), strict=True):
        photo = np.maximum(photo, 1e-6)
        mirrored = np.pad(photo, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(mirrored, (5, 5), (0, 1))
        mixed = 0.5 * photo + 0.5 * (windows**2.5).mean((3, 4)) ** (1 / 2.5)
        pooled = (mixed**4.6).mean((0, 1)) ** (1 / 4.6)
        np.testing.assert_allclose(found, pooled / np.linalg.norm(pooled) @ kernel + bias, atol=1e-5)


def test_salad_refuses_fewer_patches_than_clusters():
    layer, x = make("salad")
    with pytest.raises(ValueError, match="needs more than 3 patches, and a map of 1 x 3 has 3"):
        layer(x[:, :1, :3])
    assert layer.least_cells == 4


@pytest.mark.parametrize("interpolation", ["offset", "antialias", "size"])
def test_positions_of_the_grid_are_added_as_they_are_and_resized_otherwise(interpolation):
    layer = layers.TokenSequence(5, registers=2, interpolation=interpolation)
    tokens = numpy(call(layer, np.zeros((1, 5, 5, 8), "float32")))[0]
    np.testing.assert_allclose(tokens[3:], numpy(layer.positions)[0, 1:], atol=1e-6)
    np.testing.assert_allclose(tokens[0], numpy(layer.class_token + layer.positions[:, :1])[0, 0], atol=1e-6)
    np.testing.assert_array_equal(tokens[1:3], numpy(layer.register_tokens)[0])
    layer.positions.assign(np.ones(layer.positions.shape))
    for size in ((3, 9), (1, 1), (12, 4)):
        np.testing.assert_allclose(numpy(call(layer, np.zeros((1, *size, 8), "float32")))[0, 3:], 1, atol=1e-5)


def test_tokens_attend_to_valid_tokens_only():
    layer, x = make("block")
    mask = np.arange(11) < np.array([[7], [11]])
    found = numpy(call(layer, np.where(mask[..., None], x, 99).astype("float32"), mask))
    np.testing.assert_allclose(found[0, :7], numpy(call(layer, x[:1, :7]))[0], atol=1e-5)


def test_photos_are_fitted_to_patches_by_rounding_and_by_their_own_size():
    layer = layers.FitToPatches(14)
    sizes = {13: 14, 20: 14, 21: 28, 22: 28, 35: 28, 49: 56, 322: 322, 1: 14}
    for side, fitted in sizes.items():
        assert layer.compute_output_shape((1, side, side, 3)) == (1, fitted, fitted, 3)
    photos = np.random.default_rng(0).random((2, 60, 50, 3)).astype("float32")
    mask = np.zeros((2, 60, 50), bool)
    mask[0], mask[1, :37, :29] = True, True
    found = numpy(call(layer, photos, mask))
    np.testing.assert_allclose(found[0], numpy(call(layer, photos[:1]))[0], atol=1e-6)
    np.testing.assert_allclose(found[1, :42, :28], numpy(call(layer, photos[1:, :37, :29]))[0], atol=1e-6)
    inside = numpy(layer.compute_mask(photos, ops.convert_to_tensor(mask))) > 0
    assert inside[0].all()
    assert inside[1].sum() == 42 * 28
    assert (found[~inside] == 0).all()


def test_what_is_out_of_range_is_refused():
    wrong = {
        "patch must be at least 1": lambda: layers.FitToPatches(0),
        "height and width must": lambda: layers.FixedSize(0, 5),
        "grid and registers": lambda: layers.TokenSequence(-1),
        "interpolation must be one of offset, antialias, size": lambda: layers.TokenSequence(interpolation="cubic"),
        "multiple of 4": lambda: layers.RotaryPositions(6),
        "heads must divide": lambda: layers.TransformerBlock(3, 8).build((None, None, 8)),
        "clusters of SALAD": lambda: layers.SALAD(0),
        "one width, got 7": lambda: layers.SALAD().build((None, None, None, 7)),
        "width of BoQ must be a multiple of 64": lambda: layers.BoQ(width=100),
        "rows of BoQ": lambda: layers.BoQ(rows=0),
        "mixers of MixVPR": lambda: layers.MixVPR(mixers=0),
        "a map of a known size": lambda: layers.MixVPR().build((None, None, None, 8)),
        "units of SuperGlobal": lambda: layers.SuperGlobal(0),
        "p and regional_p": lambda: layers.SuperGlobal(p=0),
        "units of CosPlace": lambda: layers.CosPlace(0),
    }
    for message, make_wrong in wrong.items():
        with pytest.raises(ValueError, match=message):
            make_wrong()
