"""Classification of landmarks: squares, batches, a run that is stopped and resumed, and errors."""

import json

import keras
import numpy as np
import pytest

import keras_retrieval
from pipelines.files.durable import read_names
from pipelines.photos.augmentation import square
from pipelines.training import classify as step
from pipelines.training.checkpoint import CheckpointError, read_checkpoint
from pipelines.training.classification import LandmarkBatches, classifier_on, freeze_layers, numbered, set_aside
from pipelines.training.classify import classify
from pipelines.training.errors import TrainingError
from tests.helpers.owned_files import replaceable
from tests.helpers.small import saved_network
from tests.helpers.small_network import draw_photo

OPTIONS = {"epochs": 6, "batch": 4, "lr": 0.05, "size": 56, "side": 32, "validation": 0.25, "checkpoint_steps": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three landmarks of eight photos, one of them broken, and a landmark of one photo; a network."""
    folder = tmp_path_factory.mktemp("landmarks")
    for scene in range(3):
        for view in range(8):
            draw_photo(folder / "photos" / f"place {scene}" / f"{view}.png", scene, view)
    (folder / "photos" / "place 1" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    draw_photo(folder / "photos" / "alone" / "0.png", 9, 0)
    saved_network(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    results = classify(folder / "photos", model=str(folder / "small.keras"), output=folder / "run", **OPTIONS)
    return folder / "run", results


def test_it_learns_to_tell_landmarks_apart(run):
    output, results = run
    losses = [epoch["loss"] for epoch in results["history"]]
    assert losses[-1] < 0.7 * losses[0]
    assert max(epoch["accuracy"] for epoch in results["history"]) > 0.6
    assert (results["landmarks"], results["photos"]) == (3, {"training": 17, "validation": 6})
    assert results["left_out"].keys() == {"place 1/3.png"}
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= results["history"][0].keys()
    assert results["best_epoch"] == 1 + int(np.argmin([epoch["val_loss"] for epoch in results["history"]]))
    assert json.loads((output / "results.json").read_text())["history"] == results["history"]
    assert not replaceable(output)
    assert "3 landmarks, 17 training photos" in (output / "page.html").read_text()
    assert (output / "history.csv").read_text().count("\n") == 7


def test_the_trunk_that_learned_is_in_the_retrieval_network(folder, run):
    output, _ = run
    before, after = keras_retrieval.load(folder / "small.keras"), keras_retrieval.load(output / "model.keras")
    classifier = keras.saving.load_model(output / "classifier.keras", compile=False)
    assert [layer.name for layer in after.layers] == [layer.name for layer in before.layers]
    for one, other, old in zip(
        after.get_layer("trunk").weights, classifier.get_layer("trunk").weights, before.get_layer("trunk").weights,
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(one, other)
        assert np.abs(np.asarray(one) - np.asarray(old)).max() > 1e-4
    assert read_names(output / "landmarks.txt") == ["place 0", "place 1", "place 2"]


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(folder, run, monkeypatch, capsys):
    stopped = {"model": str(folder / "small.keras"), "output": folder / "stopped"} | OPTIONS
    made = step.checkpointing

    def stopping(output, checkpoint, *rest):
        callback = made(output, checkpoint, *rest)
        end = callback.on_train_batch_end

        def stop(batch, logs=None):
            end(batch, logs)
            if checkpoint.epochs == 1 and checkpoint.step == 2:
                raise KeyboardInterrupt

        callback.on_train_batch_end = stop
        return callback

    monkeypatch.setattr(step, "checkpointing", stopping)
    with pytest.raises(KeyboardInterrupt):
        classify(folder / "photos", **stopped)
    assert "the checkpoint contains 1 epochs and 2 steps of the next: --resume continues" in capsys.readouterr().out
    monkeypatch.setattr(step, "checkpointing", made)
    with pytest.raises(CheckpointError, match="give --resume to continue it"):
        classify(folder / "photos", **stopped)
    with pytest.raises(CheckpointError, match="was started with --lr"):
        classify(folder / "photos", **stopped | {"lr": 0.1, "resume": True})
    classify(folder / "photos", **stopped, resume=True)
    assert "resuming after epoch 1, step 2 of 4" in capsys.readouterr().out
    for one, other in zip(read_checkpoint(run[0]).weights, read_checkpoint(folder / "stopped").weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_square_lies_in_the_photo_and_has_its_scale():
    rows, columns = np.mgrid[:60, :90].astype(np.uint8)
    pixels = np.stack([rows, columns, rows], axis=2)
    middle = square(pixels, 60)
    np.testing.assert_array_equal(middle, pixels[:, 15:75])
    rng = np.random.default_rng(0)
    for _ in range(50):
        cut = square(pixels, 20, 0.5, rng).astype(float)
        assert cut.shape == (20, 20, 3)
        side = (cut[-1, 0, 0] - cut[0, 0, 0]) / 19 * 20  # of the cut, in pixels of the photo
        assert 28 <= side <= 62
        assert abs((cut[0, -1, 1] - cut[0, 0, 1]) / 19 * 20 - side) < 3


def batches(names, labels, **changes):
    options = {"side": 8, "batch": 4, "least": 0.5, "flip": True, "jitter": 0.0, "seed": 0} | changes
    return LandmarkBatches(Colours(), names, labels, **options)


class Colours:
    """Photos of one colour, which is the number in their name."""

    def read(self, name):
        return np.full((12, 16, 3), int(name), np.uint8)


def test_each_epoch_has_every_photo_once_with_its_landmark():
    names, labels = numbered({"a": [str(row) for row in range(5)], "b": [str(row) for row in range(5, 12)]})
    data = batches(names, labels)
    epochs = [list(data.dataset(epoch).as_numpy_iterator()) for epoch in (0, 1, 1)]
    seen = [np.concatenate([pixels[:, 0, 0, 0] for pixels, _ in epoch]) for epoch in epochs]
    for epoch, numbers in zip(epochs, seen, strict=True):
        assert sorted(numbers) == list(range(12))
        assert np.concatenate([labels for _, labels in epoch]).tolist() == [int(number >= 5) for number in numbers]
    assert seen[0].tolist() != seen[1].tolist() == seen[2].tolist()
    rest = [pixels[:, 0, 0, 0] for pixels, _ in data.dataset(1, start=2).as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate(rest), seen[1][8:])


def test_a_share_of_each_landmark_is_set_aside_and_one_photo_stays():
    names, labels = numbered({"a": ["0", "1", "2", "3"], "b": ["4"], "c": ["5", "6"]})
    training, aside = set_aside(batches(names, labels), 0.5)
    assert sorted([*training.names, *aside.names], key=int) == names
    assert np.bincount(aside.labels, minlength=3).tolist() == [2, 0, 1]
    assert aside.least is None
    assert training.batch == 4
    assert set_aside(batches(names, labels), 0.0)[1] is None


def test_batch_normalization_and_the_first_layers_stay_as_they_are():
    pixels, images = (keras.Input((None, None, 3)) for _ in range(2))
    x = keras.layers.Conv2D(6, 3)(keras.layers.Conv2D(4, 3, strides=2)(pixels))
    trunk = keras.Model(pixels, keras.layers.BatchNormalization()(x), name="trunk")
    x = trunk(keras_retrieval.layers.PixelNormalization.of("torch", name="normalization")(images))
    network = keras.Model(images, keras_retrieval.layers.MAC(name="pooling")(x), name="small_mac")
    freeze_layers(network, 1)
    classifier = classifier_on(network, 4)
    kinds = {type(layer) for layer in trunk.layers if layer.trainable_weights}
    assert keras.layers.Conv2D in kinds
    assert keras.layers.BatchNormalization not in kinds
    assert not next(layer for layer in trunk.layers if layer.weights).trainable_weights
    photos = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(classifier(photos, training=True), classifier(photos, training=False), atol=1e-6)


def test_a_loss_that_is_not_finite_ends_the_run(folder, tmp_path):
    options = OPTIONS | {"lr": 1e30, "epochs": 1, "batch": 64}
    with pytest.raises(TrainingError, match=r"epoch 1 ends with loss .*, val_loss nan.* lower --lr"):
        classify(folder / "photos", model=str(folder / "small.keras"), output=tmp_path / "run", **options)
    assert not (tmp_path / "run" / "model.keras").exists()


def test_a_network_without_a_trunk_is_named():
    flat = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3)], name="flat")
    with pytest.raises(ValueError, match="flat has no trunk"):
        classifier_on(flat, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"lr": 0.0}, "--lr must be above 0, got 0.0"),
        ({"zoom": 0.0}, "--zoom must be at least 0.1, got 0.0"),
        ({"validation": 1.0}, "--validation must be below 1, got 1.0"),
        ({"min_photos": 9}, "0 of 4 landmarks have at least 9 readable photos, but at least 2 are needed"),
        ({"freeze": 9}, "--freeze must be at most 2, .* trunk of small, got 9"),
        ({"model": "nowhere.onnx"}, "nowhere.onnx: an .onnx network cannot be trained"),
        ({"resume": True, "model": "nowhere.keras"}, "no network at nowhere"),
    ],
)
def test_what_cannot_be_trained_is_named(folder, tmp_path, changes, message):
    options = {"model": str(folder / "small.keras"), "output": tmp_path / "run"} | OPTIONS | changes
    with pytest.raises(ValueError, match=message):
        classify(folder / "photos", **options)
