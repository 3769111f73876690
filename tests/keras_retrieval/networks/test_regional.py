"""R-MAC with regional whitening and with proposals: built by name, replaced, saved, padded."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_retrieval
from keras_retrieval import layers
from keras_retrieval.networks.padded import PaddedNetwork
from keras_retrieval.networks.regional import regional_layer, with_proposals, with_regional_whitening

PHOTOS = np.random.default_rng(0).integers(0, 256, (2, 140, 180, 3)).astype("float32")


def numpy(x):
    return ops.convert_to_numpy(x)


def build(name="alexnet_rmac", **options):
    keras.utils.set_random_seed(0)
    return keras_retrieval.build(name, weights=None, **options)


def proposed(network=None):
    """A network with proposals whose heads have larger weights than the initial ones."""
    layer = layers.RegionProposals(20, scales=(2, 4), candidates=50, filters=8, dtype="float32")
    network = with_proposals(network or build(), layer)
    layer.set_weights([10 * weight for weight in layer.get_weights()])
    return network


def test_regions_and_their_whitening_are_built_by_name():
    network = build(regions="proposals", proposals=9, anchors=(2, 4), regional_dim=30, dim=7)
    pooling = network.get_layer("pooling")
    assert (pooling.proposals.count, pooling.proposals.scales, pooling.whitening.dim) == (9, (2.0, 4.0), 30)
    assert pooling.output.shape[-1] == 30
    assert network.output_shape == (None, 7)
    np.testing.assert_allclose(np.linalg.norm(numpy(network(PHOTOS)), axis=1), 1, atol=1e-5)
    assert build(regional_whitening=True).get_layer("pooling").whitening.kernel.shape == (256, 256)
    with pytest.raises(ValueError, match="regions must be one of grid, proposals, got 'boxes'"):
        build(regions="boxes")


def test_a_regional_whitening_is_put_in_and_replaced():
    network = build()
    rng = np.random.default_rng(1)
    mean, projection = rng.normal(size=256), rng.normal(size=(256, 256))
    whitened = with_regional_whitening(network, mean, projection, 20)
    vectors, _, exist = (numpy(part) for part in regional_layer(network).regions(_map(network)))
    expected = (vectors - mean) @ projection[:20].T
    expected = (expected / np.linalg.norm(expected, axis=-1, keepdims=True) * exist[..., None]).sum(axis=1)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(numpy(whitened(PHOTOS)), expected, atol=1e-4)
    again = with_regional_whitening(whitened, mean, projection)
    assert again.output_shape == (None, 256)
    assert again.get_layer("alexnet") is network.get_layer("alexnet")
    with pytest.raises(
        ValueError, match="ends with a whitening of 256 dimensions, but its regions would have 20: keep"
    ):
        with_regional_whitening(build(whitening=True), mean, projection, 20)
    with pytest.raises(ValueError, match="alexnet_gem pools no regions"):
        with_regional_whitening(build("alexnet_gem"), mean, projection)


def _map(network):
    return keras.Model(network.input, regional_layer(network).input)(PHOTOS)


@pytest.mark.parametrize("pooling", ["alexnet_rmac", "alexnet_rgem"])
def test_proposals_are_put_in_and_saved(pooling, tmp_path):
    network = build(pooling)
    regional_layer(network).pooling.set_weights([weight * 0 + 2 for weight in regional_layer(network).pooling.weights])
    changed = proposed(network)
    y = numpy(changed(PHOTOS))
    assert np.abs(y - numpy(network(PHOTOS))).max() > 1e-3
    changed.save(tmp_path / "model.keras")
    loaded = keras_retrieval.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(PHOTOS)), y)
    assert not {weight.path for weight in loaded.trainable_weights} & {
        weight.path for weight in regional_layer(loaded).proposals.weights
    }


def test_parts_that_are_replaced_leave_no_weights_behind():
    pooling = regional_layer(proposed(proposed(build(regional_whitening=True))))
    parts = [*pooling.whitening.weights, *pooling.proposals.weights]
    assert sorted(map(id, pooling.weights)) == sorted(map(id, parts))


def test_padding_changes_no_proposal():
    network = proposed()
    square = np.zeros((1, 180, 180, 3), "float32")
    square[0, :140] = PHOTOS[0]
    padded = PaddedNetwork(network)
    # A photo that fills the array has exactly the descriptor of the network, a padded one nearly: see PaddedNetwork.
    whole = padded({"photos": PHOTOS, "sizes": np.array([[140, 180]] * 2)})
    np.testing.assert_allclose(numpy(whole), numpy(network(PHOTOS)), atol=1e-5)
    part = numpy(padded({"photos": square, "sizes": np.array([[140, 180]])}))
    assert (part[0] * numpy(network(PHOTOS))[0]).sum() > 0.9


def test_a_saved_network_of_before_there_were_proposals_loads():
    config = layers.RMAC().get_config()
    del config["proposals"]
    assert layers.RMAC.from_config(config).proposals is None
