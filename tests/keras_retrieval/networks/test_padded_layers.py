"""Padded photos have the descriptors that they have without padding, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_retrieval
from keras_retrieval import layers
from keras_retrieval.networks.build import assemble
from keras_retrieval.networks.multi_scale import PaddedScales, multi_scale
from keras_retrieval.networks.padded import PaddedNetwork, misfit
from tests.helpers.backends import run, slow_on_jax

RNG = np.random.default_rng(0)
SIZES = ((41, 56), (56, 38), (33, 33))


def assembled(make):
    """A network of the layers that `make` applies to normalised pixels, with weights that are nowhere zero."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    trunk = keras.Model(pixels, make(pixels), name="trunk")
    front = [layers.PixelNormalization.of("torch", name="normalization")]
    network = assemble("net", front, trunk, layers.GeM(name="pooling", dtype="float32"))
    for weight in network.weights:
        if "variance" not in weight.name and weight.name not in ("p", "kernel"):
            weight.assign(np.random.default_rng(1).uniform(0.1, 0.4, weight.shape))
    return network


def padded_batch(sizes=SIZES):
    photos = [RNG.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    images = np.full((len(photos), *np.max(sizes, axis=0), 3), 99, np.uint8)
    for image, photo in zip(images, photos, strict=True):
        image[: photo.shape[0], : photo.shape[1]] = photo
    return photos, images, np.array(sizes, "int32")


def assert_exact(padded, whole):
    photos, images, sizes = padded_batch()
    expected = [ops.convert_to_numpy(run(whole, photo[None]))[0] for photo in photos]
    found = run(lambda images, sizes: padded({"photos": images, "sizes": sizes}), images, sizes)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=2e-6)


def convolutions(x):
    conv = keras.layers.Conv2D
    x = conv(6, 5, 2, activation="relu")(keras.layers.ZeroPadding2D(((2, 1), (0, 3)))(x))
    x = keras.layers.MaxPooling2D(3, 1, "same")(x)
    x = conv(6, 3, padding="same", dilation_rate=2, activation="relu")(x)
    y = keras.layers.BatchNormalization()(conv(6, 1)(x))
    x = keras.layers.Add()([keras.layers.ReLU()(y), keras.layers.DepthwiseConv2D(7, padding="same")(x)])
    x = keras.layers.AveragePooling2D(2)(keras.layers.Concatenate()([x, y * 0.5 + x]))
    x = keras.Sequential([keras.layers.LayerNormalization(), conv(8, 2, 2, padding="same")])(x)
    return conv(8, 3, padding="same", activation="relu")(keras.layers.Dense(8, activation="gelu")(x))


@pytest.mark.backend
def test_each_kind_of_layer_reads_zeros_beyond_a_photo():
    network = assembled(convolutions)
    assert misfit(network) == ""
    assert_exact(PaddedNetwork(network, exact=True), network)


@pytest.mark.backend
def test_without_masks_the_padding_is_read():
    network = assembled(convolutions)
    with pytest.raises(AssertionError):
        assert_exact(PaddedNetwork(network), network)


@pytest.mark.backend
@pytest.mark.parametrize(
    ("name", "scales", "mirror", "antialias"),
    [
        ("of each kind of layer", (1, 0.7071), True, True),
        pytest.param("alexnet_rmac", (1, 0.7071, 1.3), True, False, marks=slow_on_jax),
        pytest.param("torchresnet18_gem", (0.9,), False, True, marks=slow_on_jax),
    ],
)
def test_scales_and_mirrors_of_padded_photos(name, scales, mirror, antialias):
    made = "_" not in name
    network = assembled(convolutions) if made else keras_retrieval.build(name, weights=None, dim=16)
    options = {"scales": scales, "mirror": mirror, "antialias": antialias}
    # JAX compiles a program for each size.
    photos, images, sides = padded_batch(SIZES[:2] if made else [(2 * height, 2 * width) for height, width in SIZES])
    whole, padded = multi_scale(network, **options), PaddedScales(network, **options)
    expected = [ops.convert_to_numpy(run(whole, photo[None]))[0] for photo in photos]
    found = run(lambda images, sizes: padded({"photos": images, "sizes": sizes}), images, sides)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=5e-6)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda x: keras.layers.Conv2D(4, 3, 2, padding="same", name="stem")(x), "stem has the padding 'same' with"),
        (lambda x: keras.layers.AveragePooling2D(2, 1, "same", name="mean")(x), "mean counts the cells inside"),
        (lambda x: keras.layers.UpSampling2D(name="up")(x), r"up \(UpSampling2D\) has no rule"),
        (lambda x: keras.layers.GaussianNoise(0.1, name="noise")(x), r"noise \(GaussianNoise\) has no rule"),
    ],
)
def test_a_network_that_reads_the_padding_is_refused_with_the_layer(make, reason):
    with pytest.raises(ValueError, match=f"net cannot take padded photos: layer {reason}"):
        PaddedNetwork(assembled(make), exact=True)


def test_a_published_trunk_whose_padding_depends_on_the_size_is_refused():
    assert "depends on the size of the array" in misfit(keras_retrieval.build("mobilenetv3small_gem", weights=None))
