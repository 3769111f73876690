"""The step `train` on batches of classes: resumed to the same weights, in chunks, with class centres and a memory."""

import shutil

import keras
import numpy as np
import pytest

import keras_retrieval
from keras_retrieval.losses import KeptDescriptors
from keras_retrieval.networks.transformer_shapes import dinov2
from keras_retrieval.networks.vision_transformer import vision_transformer
from pipelines.training import callbacks, report
from pipelines.training.checkpoint import CheckpointError, read_checkpoint
from pipelines.training.network import compiled, freeze_but_last, recompute_blocks
from pipelines.training.train import train
from pipelines.training.train_options import TrainOptions
from pipelines.training_tuples.data import TuplesError
from tests.helpers.interrupted_training import make_collection, options
from tests.helpers.small_tuples import batch, network_with_statistics, photos

MEMORY = {"loss": "multi-similarity", "batch_classes": "4x3", "memory": 30}
CENTRES = {"loss": "arcface", "batch_classes": "3x2", "sub_centres": 2, "centre_lr": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_collection(tmp_path_factory.mktemp("classes"))


@pytest.fixture
def no_page(monkeypatch):
    monkeypatch.setattr(report, "training_page", lambda *_: "")


def short(folder, name, **changes):
    return options(folder, output=folder / name, **{"steps": 4, "whiten": "none", "checkpoint_steps": 3} | changes)


@pytest.mark.usefixtures("no_page")
def test_a_killed_run_ends_with_the_same_weights_and_memory(folder, monkeypatch):
    changes = MEMORY | {"optimizer": "adamw", "schedule": "linear", "warm_up": 0.5, "epochs": 2}
    train(**short(folder, "whole", **changes))
    whole = read_checkpoint(folder / "whole")
    written = []

    def kill(run, checkpoint):
        write(run, checkpoint)
        written.append((checkpoint.epochs, checkpoint.step))
        if len(written) == 3:  # in the second epoch
            raise KeyboardInterrupt

    write = callbacks.write_checkpoint
    monkeypatch.setattr(callbacks, "write_checkpoint", kill)
    with pytest.raises(KeyboardInterrupt):
        train(**short(folder, "killed", **changes))
    monkeypatch.setattr(callbacks, "write_checkpoint", write)
    assert written == [(0, 3), (1, 0), (1, 3)]
    train(**short(folder, "killed", resume=True, **changes))
    killed = read_checkpoint(folder / "killed")
    for key in ("weights", "optimizer", "extra", "best"):
        for one, other in zip(getattr(whole, key), getattr(killed, key), strict=True):
            np.testing.assert_array_equal(one, other)
    assert [epoch["loss"] for epoch in whole.history] == [epoch["loss"] for epoch in killed.history]
    assert {tuple(array.shape) for array in whole.extra} == {(30, 16), (30,), ()}
    first = keras_retrieval.load(folder / "small.keras").get_weights()
    assert max(np.abs(a - b).max() for a, b in zip(first, whole.weights, strict=True)) > 1e-4


@pytest.mark.usefixtures("no_page")
def test_a_folder_of_fewer_classes_than_negatives(folder, tmp_path):
    for scene in "012":
        shutil.copytree(folder / "photos" / scene, tmp_path / "few" / scene)
    changes = {"loss": "multi-similarity", "batch_classes": "3x2", "negatives": 5, "steps": 1, "epochs": 1}
    train(**short(folder, "few", tuples=tmp_path / "few", photos=None, **changes))
    assert (folder / "few" / "model.keras").is_file()


@pytest.mark.usefixtures("no_page")
def test_photos_of_objects_with_one_photo_are_learned_as_two_views(folder, tmp_path, caplog):
    for scene in "01":
        shutil.copytree(folder / "photos" / scene, tmp_path / "photos" / scene)
    for scene in "23":
        (tmp_path / "photos" / scene).mkdir()
        first = min((folder / "photos" / scene).iterdir())
        shutil.copy(first, tmp_path / "photos" / scene)
    changes = {"loss": "info-nce", "batch_classes": "4x2", "steps": 2, "epochs": 1, "keep": 1.0, "zoom": 0.6}
    changes |= {"tuples": tmp_path / "photos", "photos": None, "small_classes": "repeat"}
    with caplog.at_level("INFO", "keras_retrieval"):
        train(**short(folder, "repeated", **changes))
    assert "in 4 classes; the photos of 2 classes with fewer than 2 are repeated" in caplog.text
    (epoch,) = read_checkpoint(folder / "repeated").history
    assert 0 < epoch["loss"] < 10
    with pytest.raises(TuplesError, match=r"needs 4 classes, and at most 2 .*; 2 have fewer"):
        train(**short(folder, "dropped", **changes | {"small_classes": "drop"}))


@pytest.mark.usefixtures("no_page")
def test_class_centres_are_in_the_checkpoint_and_not_in_the_network(folder):
    train(**short(folder, "centres", **CENTRES, padded=False, epochs=1))
    kept = read_checkpoint(folder / "centres")
    assert [array.shape for array in kept.extra] == [(6, 2, 16)]
    first = keras_retrieval.load(folder / "small.keras").get_weights()
    saved = keras_retrieval.load(folder / "centres" / "model.keras").get_weights()
    assert [array.shape for array in saved] == [array.shape for array in first]
    assert max(np.abs(a - b).max() for a, b in zip(first, saved, strict=True)) > 1e-4


@pytest.mark.usefixtures("no_page")
def test_a_run_with_keep_that_is_resumed_has_the_descriptors_before_training(folder):
    drawn = {"loss": "info-nce", "batch_classes": "3x2", "steps": 2, "keep": 100.0, "checkpoint_steps": 0}
    train(**short(folder, "kept", epochs=2, **drawn))
    train(**short(folder, "again", epochs=1, **drawn))
    train(**short(folder, "again", epochs=2, resume=True, **drawn))
    whole, again = (keras_retrieval.load(folder / name / "model.keras").get_weights() for name in ("kept", "again"))
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(CheckpointError, match="keep"):
        train(**short(folder, "again", epochs=3, resume=True, **drawn | {"keep": 50.0}))


def step(loss, chunk, form, kept=None):
    """One step of training; returns the loss and all weights, those of the loss included."""
    keras.utils.set_random_seed(3)
    network = network_with_statistics()
    of_centres = {"cosface": {"centre_lr": 0.1}, "multi-similarity": {"memory": 40}}.get(loss, {})
    chosen = TrainOptions(
        "tuples.npz", photos=".", loss=loss, batch_classes="3x5", lr=1e-3, chunk=chunk, padded=form == "padded",
        **of_centres,
    )  # fmt: skip
    model = compiled(network, chosen, 1, classes=6, kept=kept)
    inputs, _ = batch(form, photos(sizes=((40, 56), (56, 40))))
    labels = np.repeat([[0], [2], [5]], 5, axis=1)
    labels = np.stack([labels, np.full_like(labels, -1)], axis=-1)
    value = model.train_on_batch(inputs, labels)
    return value, [np.array(weight) for weight in [*model.network.weights, *model.extra_weights]]


@pytest.mark.parametrize(("loss", "form"), [("cosface", "exact"), ("multi-similarity", "padded")])
def test_chunks_change_nothing(loss, form):
    whole, chunked = step(loss, None, form), step(loss, 4, form)
    assert whole[0] == pytest.approx(chunked[0], rel=1e-5)
    for one, other in zip(whole[1], chunked[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_the_penalty_of_keep_is_the_same_in_chunks_and_has_a_gradient():
    before = np.random.default_rng(0).normal(size=(100, 8))
    plain, *kept = (step("info-nce", chunk, "padded", one) for chunk, one in (
        (None, None), (None, KeptDescriptors(before, 3.0)), (4, KeptDescriptors(before, 3.0))))  # fmt: skip
    assert kept[0][0] == pytest.approx(kept[1][0], rel=1e-5)
    assert kept[0][0] > plain[0] + 1
    for one, other in zip(kept[0][1], kept[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert max(np.abs(one - other).max() for one, other in zip(plain[1], kept[0][1], strict=True)) > 1e-3


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("torchresnet18_gem", 1, "layer4_0_conv1"),
        ("alexnet_gem", 0, None),
        ("alexnet_gem", 2, "conv4"),
    ],
)
def test_the_last_blocks_or_stages_are_trained(name, count, first):
    network = keras_retrieval.build(name, weights=None)
    freeze_but_last(network, count)
    trunk = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    trained = [layer.name for layer in trunk.layers if layer.weights and layer.trainable]
    assert (trained[0] if trained else None) == first


def test_the_last_blocks_of_a_transformer_are_trained_and_computed_again():
    trunk = vision_transformer(dinov2(64, 3), "small")
    images = keras.Input((None, None, 3))
    network = keras.Model(images, trunk(images))
    freeze_but_last(network, 1)
    assert [layer.name for layer in trunk.layers if layer.weights and layer.trainable] == ["block_2", "norm"]
    assert recompute_blocks(network) == 3
    with pytest.raises(ValueError, match="--train-last must be at most 3"):
        freeze_but_last(network, 4)
