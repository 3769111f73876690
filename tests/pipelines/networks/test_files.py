"""Network files: saving, loading, identity, and the smallest photo that a network takes."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_retrieval
from keras_retrieval import layers
from keras_retrieval.networks.build import assemble, for_pooling
from keras_retrieval.networks.transformer_shapes import dinov2
from keras_retrieval.networks.vision_transformer import vision_transformer
from pipelines.descriptors.describer import describer
from pipelines.files.space import DiskSpaceError
from pipelines.networks.files import load_model, model_identity, save_model, smallest_side
from tests.helpers.small import network, saved_network


class FullDiskModel:
    weights = (np.zeros((300, 10), "float32"), np.zeros(10, "float32"))

    def save(self, path):
        path.write_bytes(b"a part")
        raise OSError("Unable to write (errno = 28, error message = 'No space left on device')")  # as h5py's error


def test_a_full_disk_leaves_the_network_before(tmp_path, monkeypatch):
    path = tmp_path / "out.keras"
    path.write_bytes(b"before")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1_000))
    with pytest.raises(DiskSpaceError, match=r"out\.keras needs 12\.1 kB, and 1\.0 kB are free"):
        save_model(FullDiskModel(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["out.keras"]
    assert path.read_bytes() == b"before"


@pytest.mark.kernels
@pytest.mark.parametrize("name", ["alexnet_gem", "vgg16_gem"])
def test_the_smallest_side_is_enough_and_one_pixel_less_is_not(name):
    model = keras_retrieval.build(name, weights=None)
    describe, side = describer(model), smallest_side(model)
    rows = describe(np.full((1, side, side, 3), 77, np.uint8))
    assert np.linalg.norm(rows) == pytest.approx(1, abs=0.1)
    for height, width in ((side - 1, side - 1), (side, side - 1), (side - 1, 2 * side)):
        with pytest.raises(
            ValueError, match=f"of {width} x {height} pixels are too small for {name}, which needs {side}"
        ):
            describe(np.full((1, height, width, 3), 77, np.uint8))


@pytest.mark.kernels
def test_a_network_with_its_scales_inside_needs_a_side_for_the_smallest():
    model = network()
    joined = keras_retrieval.multi_scale(model, (1.0, 0.5, 2.0))
    side = smallest_side(model)
    assert smallest_side(joined) == smallest_side(model, (1.0, 0.5, 2.0)) == 2 * side + 1
    assert smallest_side(joined, (0.5,)) == 4 * side + 1
    assert smallest_side(keras_retrieval.multi_scale(model, (1.0, 2.0))) == side
    with pytest.raises(ValueError, match="too small"):
        describer(joined)(np.zeros((1, 2 * side, 2 * side, 3), np.uint8))


@pytest.mark.kernels
@pytest.mark.parametrize(("side", "scale"), [(27, 0.072), (29, 0.0725), (63, 0.0525), (63, 0.0875), (7, 0.5), (7, 2.0)])
def test_the_smallest_side_is_enough_at_a_scale(side, scale, monkeypatch):
    """Scaled sides are rounded down in float32: 375 x 0.072 is 26, not 27."""
    monkeypatch.setattr("pipelines.networks.files._has_feature_map", lambda _, given, cells: given >= side)
    smallest = smallest_side(network(), (1.0, scale) if scale < 1 else (scale,))
    rescaling = keras_retrieval.layers.Rescaling(scale)
    scaled = tf.function(lambda images: rescaling(images), input_signature=[tf.TensorSpec((1, None, None, 3))])
    assert scaled(np.zeros((1, smallest, smallest, 3), "float32")).shape[1] >= side
    assert scaled(np.zeros((1, smallest - 3, smallest - 3, 3), "float32")).shape[1] < side


def test_a_networks_identity_is_its_content(tmp_path):
    path = saved_network(tmp_path)
    identity = model_identity(path)
    assert identity["path"] == str(path)
    other = tmp_path / "other"
    other.mkdir()
    copy = other / "copy.keras"
    copy.write_bytes(path.read_bytes())
    assert model_identity(copy)["sha256"] == identity["sha256"]
    assert model_identity(saved_network(other, seed=1))["sha256"] != identity["sha256"]
    assert model_identity("vgg16_gem") == {"name": "vgg16_gem"}
    np.testing.assert_array_equal(load_model(copy).get_weights()[0], load_model(path).get_weights()[0])


def test_a_network_is_saved_whole_or_not_at_all(tmp_path):
    path, model = tmp_path / "new" / "model.keras", network()
    save_model(model, path)
    before = path.read_bytes()

    class Failing:
        weights = ()

        def save(self, file):
            file.write_bytes(before[:100])
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        save_model(Failing(), path)
    assert path.read_bytes() == before
    save_model(network(seed=1), path)
    assert not np.array_equal(load_model(path).get_weights()[0], model.get_weights()[0])
    assert list(path.parent.iterdir()) == [path]


def test_salad_needs_photos_with_more_patches_than_clusters():
    trunk = for_pooling(vision_transformer(dinov2(64, 1), "transformer"), "salad")
    front = [layers.PixelNormalization.of("torch", name="normalization")]
    pooling = layers.SALAD(clusters=10, features=3, hidden=4, name="pooling", dtype="float32")
    model = assemble("transformer_salad", front, trunk, pooling)
    side = smallest_side(model)
    assert side == 49  # 4 x 4 patches of 14 px; 3 x 3 are fewer than 11
    assert np.isfinite(keras.ops.convert_to_numpy(model(np.zeros((1, side, side, 3))))).all()
    with pytest.raises(ValueError, match="needs more than 10 patches"):
        model(np.zeros((1, side - 1, side - 1, 3)))
    assert smallest_side(keras_retrieval.multi_scale(model, (1.0, 0.5))) == 2 * side + 1
