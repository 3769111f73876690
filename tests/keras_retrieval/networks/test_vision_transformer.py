"""Vision transformers as trunks: any size, padded photos, precision, every pooling, saving, exports' dynamic graphs."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_retrieval
from keras_retrieval import layers
from keras_retrieval.layers.initial_values import UniformOf16Bits
from keras_retrieval.networks.backbones import TRANSFORMERS
from keras_retrieval.networks.build import FRONT_ENDS, POOLINGS, assemble, for_pooling
from keras_retrieval.networks.padded import PaddedNetwork
from keras_retrieval.networks.precision import set_trunk_precision
from keras_retrieval.networks.transformer_shapes import dinov2, dinov3
from keras_retrieval.networks.vision_transformer import vision_transformer

SMALL = {"salad": {"clusters": 3, "features": 5}, "boq": {"width": 64, "rows": 2}, "netvlad": {"clusters": 4}}
SHAPES = {
    "dinov2": dinov2(64, 2),
    "dinov2 registers": dinov2(64, 1, 4, hidden=96, gated=True),
    "dinov3": dinov3(64, 1),
}


def numpy(x):
    return ops.convert_to_numpy(x)


def small(shape="dinov2", pooling="cls", seed=0):
    """A network with a small transformer whose blocks have weights that matter."""
    keras.utils.set_random_seed(seed)
    trunk = for_pooling(vision_transformer(SHAPES[shape], "dinov2small"), pooling)
    for layer in trunk.layers:
        if isinstance(layer, layers.TransformerBlock):
            layer.scale1.assign(np.full(64, 0.5))
            layer.scale2.assign(np.full(64, 0.5))
    front = [layers.PixelNormalization.of("torch", name="normalization")]
    options = {"features": 5, "projection": 7, "clusters": 3} if pooling == "megaloc" else SMALL.get(pooling, {})
    return assemble(
        f"dinov2small_{pooling}", front, trunk, POOLINGS[pooling](name="pooling", dtype="float32", **options)
    )


def photos(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype("float32")


FITTING = [pooling for pooling in POOLINGS if pooling not in FRONT_ENDS]


@pytest.mark.parametrize("pooling", FITTING)
def test_every_pooling_describes_photos_of_any_size_and_padded_ones(pooling):
    network = small("dinov2 registers", pooling)
    x = photos(3, 70, 84)
    sizes = np.array([[70, 84], [56, 60], [43, 70]])  # multiples of the patch, and not
    for photo, (height, width) in enumerate(sizes):
        x[photo, height:], x[photo, :, width:] = 255, 255
    found = numpy(PaddedNetwork(network)({"photos": x, "sizes": sizes}))
    for photo, (height, width) in enumerate(sizes):
        alone = numpy(network(x[photo : photo + 1, :height, :width], training=False))[0]
        np.testing.assert_allclose(found[photo], alone, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(alone), 1, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_changes_no_descriptor_and_a_patch_more_does(shape):
    network = small(shape)
    side = 16 if shape == "dinov3" else 14
    x = photos(2, 6 * side, 7 * side)
    sizes = np.array([[4 * side, 5 * side], [5 * side, 5 * side]])
    found = numpy(PaddedNetwork(network)({"photos": x, "sizes": sizes}))
    for photo, (height, width) in enumerate(sizes):
        part = x[photo : photo + 1, :height, :width]
        np.testing.assert_allclose(found[photo], numpy(network(part))[0], atol=1e-5)
        more = numpy(network(x[photo : photo + 1, : height + side, :width]))[0]
        assert np.abs(found[photo] - more).max() > 1e-3


def test_photos_are_brought_to_multiples_of_the_patch_as_fit_to_patches_does():
    network = small()
    x = photos(1, 60, 75)
    np.testing.assert_allclose(numpy(network(x)), numpy(network(layers.FitToPatches(14)(x))), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_compiled_saved_and_with_sizes_unknown_until_run_time(shape, tmp_path):
    network = small(shape)
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.compile(jit_compile=True)
    for size in ((56, 70), (33, 7)):
        x = photos(2, *size)
        np.testing.assert_allclose(loaded.predict_on_batch(x), numpy(network(x)), atol=1e-5)


def test_a_graph_with_open_sides_gives_the_same():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("a graph of TensorFlow")
    for shape, pooling in (("dinov2", "salad"), ("dinov2 registers", "boq"), ("dinov3", "cls+mean")):
        network = small(shape, pooling)
        graph = tf.function(network, input_signature=[tf.TensorSpec((None, None, None, 3))], autograph=False)
        for size in ((56, 70), (33, 100), (75, 48)):
            x = photos(2, *size)
            np.testing.assert_allclose(numpy(graph(x)), numpy(network(x)), atol=1e-5)


def test_mixed_bfloat16_keeps_positions_and_descriptors_in_float32():
    for shape in SHAPES:
        network = small(shape)
        x = photos(1, 56, 70)
        exact = numpy(network(x))[0]
        set_trunk_precision(network, "mixed_bfloat16")
        y = network(x)
        assert keras.backend.standardize_dtype(y.dtype) == "float32"
        assert numpy(y)[0] @ exact > 0.999


def test_scales_and_gradients():
    network = small(pooling="cls+mean")
    x = photos(1, 56, 70)
    both = numpy(keras_retrieval.multi_scale(network, (1.0, 0.5))(x))[0]
    one = [numpy(network(layers.Rescaling(scale)(x)))[0] for scale in (1.0, 0.5)]
    np.testing.assert_allclose(both, sum(one) / np.linalg.norm(sum(one)), atol=1e-5)
    network.compile(keras.optimizers.SGD(0.1), loss=lambda _, y: ops.sum(y[:, ::3]))
    before = [numpy(weight) for weight in network.trainable_weights]
    network.train_on_batch(x, np.zeros(1))
    still = [w.path for old, w in zip(before, network.trainable_weights, strict=True) if (numpy(w) == old).all()]
    assert not still


@pytest.mark.parametrize(
    ("name", "millions"),
    [("dinov2vits14", 22.056576), ("dinov2vitb14", 86.6), ("dinov2vitl14", 304.4), ("dinov2vitg14", 1136.5)],
)
def test_sizes_are_the_published_ones(name, millions):
    """The number of weights, with the mask token of the published files, which retrieval does not need."""
    s = TRANSFORMERS[name]
    block = 4 * s.width**2 + 4 * s.width + 6 * s.width  # attention, and norms and scales
    block += (s.hidden * (2 if s.gated else 1)) * (s.width + 1) + s.width * (s.hidden + 1)
    tokens = s.width * (1 + 1 + 37**2) + s.width  # class, positions, mask
    total = s.depth * block + tokens + s.width * (3 * s.patch**2 + 1) + 2 * s.width
    assert total / 1e6 == pytest.approx(millions, abs=0.05 if millions > 50 else 1e-9)


def test_poolings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="'cls' does not go with 'alexnet': it needs a class token"):
        keras_retrieval.build("alexnet_cls", weights=None)
    with pytest.raises(ValueError, match="'edgemac' does not go with 'dinov2vits14': it takes edge maps"):
        keras_retrieval.build("dinov2vits14_edgemac", weights=None)
    names = keras_retrieval.list_models()
    assert {"dinov2vitb14_salad", "dinov3vits16_cls+mean", "torchresnet18_cosplace"} <= set(names)
    assert not {"alexnet_salad", "dinov2vits14_edgemac"} & set(names)


@pytest.mark.parametrize("pooling", ["megaloc", "boq"])
def test_weights_that_a_file_replaces_are_not_drawn(tmp_path, monkeypatch, pooling):
    """Drawing those of a large network takes longer than reading the file."""
    model = small(pooling=pooling)
    model.save(tmp_path / "model.keras")

    def draws(self, shape, dtype=None, **_):
        assert len(shape) != 2, f"a matrix of the shape {shape} was drawn"
        return ops.zeros(shape, dtype)

    for initializer in (keras.initializers.RandomUniform, keras.initializers.GlorotUniform, UniformOf16Bits):
        monkeypatch.setattr(initializer, "__call__", draws)
    loaded = keras_retrieval.load(tmp_path / "model.keras")
    x = photos(1, 56, 70)
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))
    with pytest.raises(AssertionError, match="was drawn"):
        small(pooling=pooling)
