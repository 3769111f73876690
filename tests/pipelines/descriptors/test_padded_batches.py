"""Photos that are padded to buckets: the rows of `extract` are those of exact batches."""

import logging

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.descriptors.describer import describe_photos, describer
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import photo_names, read_descriptors
from pipelines.descriptors.padded_batches import BucketDescriber, Buckets, bucket_of, most_photos
from tests.helpers import small


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos of 20 sizes, on JAX 5, and a network whose convolutions read beyond their border."""
    import keras

    from keras_retrieval import layers
    from keras_retrieval.networks.build import assemble

    folder = tmp_path_factory.mktemp("padded")
    rng = np.random.default_rng(0)
    step = 8 if keras.backend.backend() == "jax" else 2
    for number, side in enumerate(rng.permutation(np.arange(41, 81, step)).tolist()):
        size = (80, side) if number % 2 else (side, 80)
        small.draw(folder / "photos" / f"{number:02}.png", *size, seed=number)
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, 2, activation="relu", bias_initializer="ones")(pixels)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", bias_initializer="ones")(x)
    front = [layers.PixelNormalization.of("torch", name="normalization")]
    trunk = keras.Model(pixels, x, name="trunk")
    assemble("small", front, trunk, layers.GeM(name="pooling", dtype="float32")).save(folder / "small.keras")
    return folder


def rows(folder, output, **options):
    extract(folder / "small.keras", folder / "photos", output, size=80, precision="float32", **options)
    if options.get("crops"):
        return photo_names(output), small.shards(output)
    shards, names, _ = read_descriptors(output)
    return names, np.concatenate(shards)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"shard": 8}, marks=pytest.mark.backend),  # on JAX, each form is a program for each size
        {"scales": "1,0.7071", "mirror": True},
        {"crops": "1,2"},
    ],
)
def test_rows_are_those_of_exact_batches(folder, tmp_path, options):
    names, exact = rows(folder, tmp_path / "exact", batch_shapes="exact", **options)
    padded_names, padded = rows(folder, tmp_path / "buckets", batch_shapes="buckets", **options)
    assert padded_names == names
    np.testing.assert_allclose(padded, exact, atol=1e-5)


def test_fewer_batches_go_through_the_network(folder):
    from pipelines.networks.files import load_model
    from pipelines.photos.reading import Reading

    network, reading = load_model(folder / "small.keras"), Reading(folder / "photos", 80)
    photos = sorted((reading.shape(path.name), path.name) for path in (folder / "photos").iterdir())

    def batches(batch_shapes):
        return len([*describe_photos(describer(network, batch_shapes=batch_shapes), photos, reading.read)])

    assert batches("exact") == len({shape for shape, _ in photos}) >= 2 * batches("buckets")


def test_photos_of_one_size_are_not_padded():
    buckets = Buckets()
    buckets.add([(272, 362), (362, 272)])
    assert buckets.sides((272, 362)) == (272, 362)
    buckets.add([(271, 361), (280, 362)])
    assert buckets.sides((271, 361)) == (280, 362)
    assert bucket_of(np.sum, (3, 4)) == (3, 4)


def test_photos_whose_bucket_has_one_size_only_are_not_masked():
    calls = []

    def exact(images):
        calls.append(("exact", images.shape))
        return images.mean((1, 2))

    def padded(images, sizes):
        calls.append(("padded", images.shape))
        return np.zeros((len(images), 3))

    describe = BucketDescriber(padded, exact, 1, "net", True, "jax")
    photos = [np.full((30, 40, 3), value, np.uint8) for value in (1, 2, 3)]
    describe.buckets.add([(30, 40), (60, 80)])
    np.testing.assert_array_equal(describe.describe(photos)[:, 0], [1, 2, 3])
    describe(np.zeros((1, 30, 39, 3), np.uint8))
    describe.describe(photos)
    shapes = [("exact", (4, 30, 40, 3)), ("padded", (1, 30, 40, 3)), ("padded", (4, 30, 40, 3))]
    assert calls == shapes
    assert [most_photos(describe, most) for most in (1, 3, 4, 21)] == [1, 2, 4, 16]  # none is completed
    assert most_photos(exact, 21) == 21


@pytest.mark.parametrize("side", [1, 33, 362, 1024])
def test_a_side_is_padded_by_an_eighth_at_most(side):
    buckets = Buckets()
    buckets.add((side, width) for width in range(1, 2000))
    for width in range(1, 2000):
        height, padded = buckets.sides((side, width))
        assert height == side
        assert width <= padded <= max(width, width * 2 ** (1 / 6))


def test_a_network_that_reads_the_padding_has_exact_batches(caplog):
    import keras

    import keras_retrieval

    keras.utils.set_random_seed(0)
    network = keras_retrieval.build("mobilenetv3small_gem", weights=None)
    with caplog.at_level(logging.WARNING, "keras_retrieval"):
        describe = describer(network, batch_shapes="buckets")
    assert "batches of equal sizes, not buckets: mobilenetv3small_gem: layer conv has the padding" in caplog.text
    assert bucket_of(describe, (33, 34)) == (33, 34)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_shapes": "bucket"}, "--batch-shapes must be one of auto, exact, buckets, got bucket"),
        ({"batch_shapes": "buckets", "runtime": "openvino"}, "--batch-shapes buckets is computed by Keras: leave"),
        ({"batch_shapes": "buckets", "model": "network.onnx"}, "--batch-shapes buckets needs a .keras file"),
        ({"workers": 2}, "--workers 2 needs --engine ray or dask, or the address of a cluster"),
    ],
)
def test_options_without_effect_are_refused(folder, tmp_path, options, message):
    model = folder / options.pop("model", "small.keras")
    with pytest.raises(ArgumentError, match=message):
        extract(model, folder / "photos", tmp_path / "out", **options)
