"""Networks of cirtorch rebuilt from their tensors: their outputs, and the layer of each tensor."""

import keras
import numpy as np
import pytest

import keras_retrieval
from pipelines.networks import cirtorch
from tests.helpers import published_networks as published

NETWORKS = [
    ("alexnet", "mac", {}),
    ("alexnet", "spoc", {"whitening": True}),
    ("alexnet", "gemmp", {}),
    ("alexnet", "rmac", {"local_whitening": True}),
    ("alexnet", "gem", {"regional": True, "local_whitening": True}),
    ("alexnet", "mac", {"regional": True, "whitening": True}),
    ("alexnet", "gemmp", {"regional": True}),
    ("vgg16", "gem", {"whitening": True}),
    ("resnet50", "gem", {"whitening": True}),
    pytest.param("resnet101", "gem", {}, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("architecture", "pooling", "meta"), NETWORKS)
def test_computes_what_the_published_network_does(image, architecture, pooling, meta):
    saved = published.checkpoint(architecture, pooling, **meta)
    found, expected = published.described(cirtorch.to_keras(saved), image), published.descriptor(saved, image)
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_every_tensor_of_resnet152_has_its_place():
    """Names and shapes; what such a network computes, ResNet50 and ResNet101 show."""
    with keras.StatelessScope(initialize_variables=False):  # shapes without values, which take seconds
        trunk = keras_retrieval.build("torchresnet152_gem", weights=None).get_layer("torchresnet152")
    state = published.checkpoint("resnet152", "mac")["state_dict"]
    tensors = cirtorch.Tensors(state)
    found = cirtorch.trunk_weights("resnet152", trunk, tensors)
    tensors.finish()
    shapes = {layer.name: [weight.shape for weight in layer.weights] for layer in trunk.layers if layer.weights}
    assert {name: [array.shape for array in arrays] for name, arrays in found.items()} == shapes
    np.testing.assert_array_equal(found["layer3_35_conv2"][0][1, 2], state["features.6.35.conv2.weight"][:, :, 1, 2].T)


def test_own_mean_and_deviation(image):
    saved = published.checkpoint("alexnet", "mac")
    plain = published.described(cirtorch.to_keras(saved), image)
    saved["meta"] |= {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
    model = cirtorch.to_keras(saved)
    pixels = keras.ops.convert_to_numpy(model.get_layer("normalization")(np.full((1, 1, 1, 3), 51.0)))
    np.testing.assert_allclose(pixels.ravel(), [-3, -1, -1 / 3], rtol=1e-5)
    assert not np.allclose(plain, published.described(model, image))
