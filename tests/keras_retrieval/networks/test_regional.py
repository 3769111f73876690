"""R-MAC with regional whitening and with proposals: built by name, replaced, saved, padded."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_retrieval
from keras_retrieval import layers
from keras_retrieval.errors import ArgumentError
from keras_retrieval.networks.anchor_targets import anchor_targets
from keras_retrieval.networks.padded import PaddedNetwork
from keras_retrieval.networks.proposal_model import ProposalModel
from keras_retrieval.networks.regional import (
    regional_layer,
    unwhitened_regions,
    with_proposals,
    with_regional_whitening,
    with_whitening,
)

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
    with pytest.raises(ValueError, match="alexnet_gem does not pool regions"):
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


def test_a_learned_whitening_is_appended_once():
    network = build("alexnet_gem")
    rng = np.random.default_rng(1)
    mean, projection = rng.normal(size=256), rng.normal(size=(256, 256))
    whole = with_whitening(network, mean, projection, 20)
    expected = (numpy(network(PHOTOS)) - mean) @ projection[:20].T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(numpy(whole(PHOTOS)), expected, atol=1e-4)
    assert whole.get_layer("alexnet") is network.get_layer("alexnet")
    assert with_whitening(network, mean, projection).output_shape == (None, 256)
    with pytest.raises(ArgumentError, match="already ends with a whitening"):
        with_whitening(whole, mean, projection)
    for wrong, dim in ((projection[:, :9], None), (projection, 257), (projection[:9], 10), (projection, 0)):
        with pytest.raises(ArgumentError, match="does not fit 256 dimensions"):
            with_whitening(network, mean, wrong, dim)


def test_regions_are_found_before_their_whitening():
    network = build()
    mean, projection = np.zeros(256), np.random.default_rng(1).normal(size=(256, 256))
    wanted = regional_layer(network).regions(_map(network))
    found = unwhitened_regions(with_regional_whitening(network, mean, projection))(PHOTOS)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(numpy(one), numpy(other), atol=1e-5)


def test_a_proposal_model_trains_the_proposals_only_and_gives_the_network_back():
    network = proposed()
    model = ProposalModel(network)
    assert {weight.path.split("/")[-2] for weight in model.trainable_weights} == {
        "hidden",
        "objectness",
        "differences",
    }
    output = model({"photos": PHOTOS[:, :128, :128], "sizes": np.array([[128, 128], [128, 96]])})
    anchors, cells = model.anchors(128)
    assert output.shape == (2, len(anchors), 5)
    assert (len(cells), anchors.shape[1]) == (129, 4)
    assert model.release() is network
    frozen = {weight.path for weight in network.weights} - {weight.path for weight in network.trainable_weights}
    assert frozen == {weight.path for weight in network.get_layer("pooling").proposals.weights}
    trunk = ProposalModel(network, trunk=True)
    assert len(trunk.trainable_weights) == 6 + len(network.get_layer("alexnet").weights)
    with pytest.raises(ArgumentError, match="alexnet_rmac pools a grid: build it with regions='proposals'"):
        ProposalModel(build())


def test_a_photo_without_objects_has_only_background():
    anchors = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [4, 4, 6, 6]], "float32")
    targets = anchor_targets(anchors, np.zeros((0, 4)), (4, 4), np.random.default_rng(0))
    assert targets[:, 0].tolist() == [0, 0, -1]
    assert not targets[:, 1:].any()
