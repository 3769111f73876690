"""Training of proposals: targets and loss against naive numpy, trained weights, one photo, and the whole step."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_retrieval
from keras_retrieval import layers, losses
from keras_retrieval.layers.anchors import decode
from keras_retrieval.networks.anchor_targets import anchor_targets
from keras_retrieval.networks.proposal_model import ProposalModel
from pipelines.photos.object_boxes import BoxesError, write_boxes
from pipelines.photos.reading import Reading
from pipelines.training.checkpoint import CheckpointError
from pipelines.training.proposal_photos import ProposalPhotos, hold_out
from pipelines.training.proposal_recall import grid_boxes, recall_of_boxes
from pipelines.training.train_proposals import train_proposals

SIDE = 96


def network(seed=0, **options):
    """Cells of 4 pixels, R-MAC."""
    keras.utils.set_random_seed(seed)
    images, pixels = keras.Input((None, None, 3), name="images"), keras.Input((None, None, 3))
    x = pixels
    for stride in (2, 2):
        x = keras.layers.Conv2D(8, 3, stride, padding="same", activation="relu")(x)
    x = keras.Model(pixels, x, name="trunk")(layers.PixelNormalization.of("torch", name="normalization")(images))
    x = layers.RMAC(name="pooling", dtype="float32", **options)(x)
    return keras.Model(images, layers.L2Normalization(name="l2", dtype="float32")(x), name="small_rmac")


def draw(path, rng, height=72, width=96):
    """A red object on green ground, and its box."""
    pixels = rng.integers(60, 90, (height, width, 3), np.uint8)
    pixels[..., 1] += 80
    left, top = rng.integers(0, [width // 2, height // 2])
    right, bottom = left + width // 3 + rng.integers(0, 12), top + height // 3 + rng.integers(0, 12)
    pixels[top:bottom, left:right] = [230, 20, 20]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return [[int(left), int(top), int(right), int(bottom)]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Twelve photos in three folders, their boxes, and a network."""
    folder, rng = tmp_path_factory.mktemp("drawn"), np.random.default_rng(0)
    names = [f"{place}/{view}.png" for place in "abc" for view in range(4)]
    boxes = {name: draw(folder / name, rng, *((72, 96), (96, 60))[view % 2]) for view, name in enumerate(names)}
    write_boxes(folder / "boxes.json", boxes)
    network().save(folder / "small.keras")
    return folder


# Targets and loss


def naive_labels(anchors, boxes, size):
    inside = np.clip(anchors, 0, [size[1], size[0]] * 2)

    def iou(a, b):
        shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
        return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)

    overlap = np.array([[iou(a, b) for b in boxes] for a in inside])
    label = np.full(len(anchors), -1)
    for row, some in enumerate(overlap):
        if some.max() >= 0.7 or any(some[b] == overlap[:, b].max() > 0 for b in range(len(boxes))):
            label[row] = 1
        elif some.max() < 0.3:
            label[row] = 0
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    label[(centres[:, 0] > size[1]) | (centres[:, 1] > size[0])] = -1
    return label, overlap.argmax(axis=1)


def test_targets_equal_a_loop():
    anchors = np.array(layers.RegionProposals(scales=(2, 4, 8)).anchors(9, 12), "float32")
    boxes = np.array([[1, 1, 8, 7], [6.5, 2, 9, 4.5]])
    target = anchor_targets(anchors, boxes, (8, 10), np.random.default_rng(0), samples=10**6)
    label, nearest = naive_labels(anchors.astype("f8"), boxes, (8, 10))
    np.testing.assert_array_equal(target[:, 0], label)
    assert {-1, 0, 1} == set(label)
    objects = label == 1
    np.testing.assert_allclose(decode(target[objects, 1:], anchors[objects]), boxes[nearest[objects]], atol=1e-4)
    assert not target[~objects, 1:].any()


def test_the_sample_is_balanced_and_drawn():
    anchors = np.array(layers.RegionProposals(scales=(2, 4, 8)).anchors(24, 24), "float32")
    boxes = np.array([[4, 4, 12, 12], [10, 2, 18, 10], [2, 12, 8, 20]])
    drawn = [anchor_targets(anchors, boxes, (24, 24), np.random.default_rng(seed), 16)[:, 0] for seed in (1, 1, 2)]
    for label in drawn:
        assert (label == 1).sum() == 8
        assert (label == 0).sum() == 8
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    none = anchor_targets(anchors, np.zeros((0, 4)), (24, 24), np.random.default_rng(0), 16)
    assert (none[:, 0] == 0).sum() == 16
    assert not none[:, 0].max()


def test_the_loss_equals_a_loop():
    rng = np.random.default_rng(1)
    true = np.concatenate([rng.integers(-1, 2, (3, 20, 1)), rng.normal(size=(3, 20, 4)) * 2], axis=-1)
    true[2, :, 0] = -1
    found = rng.normal(size=(3, 20, 5)) * 3
    expected = []
    for photo in range(3):
        total, count = 0.0, 0
        for (label, *box), (logit, *differences) in zip(true[photo], found[photo], strict=True):
            count += label >= 0
            if label >= 0:
                probability = 1 / (1 + np.exp(-logit))
                total -= np.log(probability if label == 1 else 1 - probability)
            if label == 1:
                away = np.abs(np.array(box) - differences)
                total += np.where(away < 1, away**2 / 2, away - 0.5).sum()
        expected.append(total / max(count, 1))
    np.testing.assert_allclose(losses.ProposalLoss(reduction=None)(true, found), expected, rtol=1e-5)
    np.testing.assert_allclose(losses.ProposalLoss()(true, found), np.mean(expected), rtol=1e-5)


# Model and photos


@pytest.mark.parametrize("trunk", [False, True])
def test_proposals_learn_and_the_trunk_if_it_is_asked_for(trunk):
    model = network(proposals=layers.RegionProposals(8, scales=(4, 8), candidates=20), whitening=layers.Whitening())
    learner = ProposalModel(model, trunk)
    pooling = model.get_layer("pooling")
    parts = {"trunk": model.get_layer("trunk"), "proposals": pooling.proposals, "whitening": pooling.whitening}
    before = {name: part.get_weights() for name, part in parts.items()}
    rng = np.random.default_rng(2)
    photos, sizes = rng.integers(0, 256, (2, 32, 32, 3)), np.array([[32, 32], [20, 32]])
    anchors, cells = learner.anchors(32)
    assert cells[[1, 20, 32]].tolist() == [1, 5, 8]
    targets = np.stack([anchor_targets(anchors, np.array([[1, 1, 4, 5]]), (5, 8), rng) for _ in range(2)])
    learner.compile(keras.optimizers.Adam(0.01), losses.ProposalLoss())
    history = learner.fit({"photos": photos, "sizes": sizes}, targets, epochs=5, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]
    moved = {
        name
        for name, part in parts.items()
        if any((old != new).any() for old, new in zip(before[name], part.get_weights(), strict=True))
    }
    assert moved == ({"proposals", "trunk"} if trunk else {"proposals"})
    learner.release()
    assert [name for name, part in parts.items() if part.trainable_weights] == ["trunk", "whitening"]
    with pytest.raises(ValueError, match="small_rmac pools a grid"):
        ProposalModel(network())


def photos_of(folder, names, **options):
    learner = ProposalModel(network(proposals=layers.RegionProposals(8, scales=(4, 8), candidates=20)))
    reading = Reading(folder, None)
    content = json.loads((folder / "boxes.json").read_text())["photos"]
    shares = {name: np.array(boxes) / [*reading.shape(name)[::-1] * 2] for name, boxes in content.items()}
    return ProposalPhotos(names, shares, reading, SIDE, *learner.anchors(SIDE), batch=2, **options), content


@pytest.mark.parametrize("flip", [False, True])
def test_a_photo_comes_with_its_box_also_when_it_is_mirrored(drawn, flip):
    data, content = photos_of(drawn, ["a/0.png", "a/1.png", "b/0.png"], flip=flip)
    assert data.steps == 2
    seen, mirrored = 0, 0
    for data.epoch in range(4):
        for inputs, targets in data.dataset():
            for pixels, (height, width), target in zip(
                inputs["photos"].numpy(), inputs["sizes"].numpy(), targets.numpy(), strict=True
            ):
                assert not pixels[height:].any()
                assert not pixels[:, width:].any()
                objects = target[:, 0] == 1
                box = np.array(decode(target[objects, 1:], data.anchors[objects])) * 4  # cells of 4 pixels
                red = np.argwhere(pixels[:height, :width, 0] > 200)
                expected = [red[:, 1].min(), red[:, 0].min(), red[:, 1].max() + 1, red[:, 0].max() + 1]
                np.testing.assert_allclose(box, [expected] * len(box), atol=0.2)
                mirrored += expected not in [boxes[0] for boxes in content.values()]
                seen += 1
    assert seen == 12
    assert (mirrored > 0) == flip


def test_an_epoch_is_decided_by_its_number(drawn):
    data, _ = photos_of(drawn, [f"a/{view}.png" for view in range(4)])

    def order(epoch):
        data.epoch = epoch
        return [
            inputs["sizes"].numpy().tolist() + targets.numpy()[:, :, 0].sum(axis=1).tolist()
            for inputs, targets in data.dataset()
        ]

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_another_photo_takes_the_place_of_one_that_cannot_be_read(drawn):
    data, _ = photos_of(drawn, ["a/0.png", "a/1.png", "gone.png"])
    assert sum(len(targets) for _, targets in data.dataset()) == 3
    assert list(data.left_out) == ["gone.png"]
    data.names = ["gone.png"]
    with pytest.raises(Exception, match=r"none of the 1 photos can be read; one is gone\.png"):
        list(data.dataset())


# The step


def run(drawn, output, **options):
    defaults = {
        "proposals": 20,
        "anchors": "4,8,16",
        "epochs": 3,
        "lr": 0.02,
        "size": SIDE,
        "batch": 4,
        "held_out": 0.3,
    }
    return train_proposals(
        drawn / "boxes.json", photos=drawn, output=output, model=str(drawn / "small.keras"), **(defaults | options)
    )


def test_proposals_find_more_boxes_than_the_grid_in_folders_held_out(drawn, tmp_path):
    facts = run(drawn, tmp_path / "run", epochs=12)
    found = {row["regions"]: row["found"] for row in facts["recall"]}
    assert found["proposals, as many as in 3 levels"][1] > found["grid, 3 levels"][1]
    assert (facts["training_photos"], facts["held_out_photos"]) == (8, 4)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["recall"] == json.loads(
        json.dumps(facts["recall"])
    )
    page = (tmp_path / "run" / "page.html").read_text()
    assert "proposals, as many as in 3 levels" in page
    assert page.count('<figure class="chart">') == 1
    trained = keras_retrieval.load(tmp_path / "run" / "model.keras")
    assert trained.get_layer("pooling").proposals.count == 20
    original = keras_retrieval.load(drawn / "small.keras")
    for one, other in zip(trained.get_layer("trunk").weights, original.get_layer("trunk").weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 13


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(drawn, tmp_path, monkeypatch):
    """Without photos held out, on which the search for boxes takes as long as all steps."""
    options = {"held_out": 0}
    run(drawn, tmp_path / "whole", **options)
    import pipelines.training.train_proposals as step

    write, written = step.write_checkpoint, []

    def stop(folder, checkpoint):
        write(folder, checkpoint)
        written.append(checkpoint.epochs)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(step, "write_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        run(drawn, tmp_path / "stopped", **options)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="give --resume to continue it"):
        run(drawn, tmp_path / "stopped", **options)
    with pytest.raises(CheckpointError, match="--lr"):
        run(drawn, tmp_path / "stopped", lr=0.1, resume=True, **options)
    run(drawn, tmp_path / "stopped", resume=True, **options)
    one, other = (keras_retrieval.load(tmp_path / name / "model.keras") for name in ("whole", "stopped"))
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_bad_photo_costs_itself(drawn, tmp_path):
    content = json.loads((drawn / "boxes.json").read_text())["photos"]
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for name in ("a/0.png", "a/1.png"):
        (tmp_path / "photos" / name).write_bytes((drawn / name).read_bytes())
    (tmp_path / "photos" / "a" / "2.png").write_bytes(b"no photo")
    boxes = write_boxes(tmp_path / "boxes.json", {name: content[name] for name in ("a/0.png", "a/1.png", "a/2.png")})
    facts = train_proposals(
        boxes, photos=tmp_path / "photos", output=tmp_path / "run", model=str(drawn / "small.keras"), epochs=1,
        size=SIDE, held_out=0, proposals=8, anchors="8",
    )  # fmt: skip
    assert list(facts["left_out"]) == ["a/2.png"]
    assert (facts["training_photos"], facts["recall"]) == (2, [])
    whole = (tmp_path / "photos" / "a" / "1.png").read_bytes()
    (tmp_path / "photos" / "a" / "1.png").write_bytes(b"no photo any more")
    facts = train_proposals(
        boxes, photos=tmp_path / "photos", output=tmp_path / "run", model=str(drawn / "small.keras"), epochs=1,
        size=SIDE, held_out=0, proposals=8, anchors="8", resume=True,
    )  # fmt: skip
    assert (list(facts["left_out"]), facts["training_photos"]) == (["a/1.png", "a/2.png"], 1)
    (tmp_path / "photos" / "a" / "1.png").write_bytes(whole)
    assert (
        recall_of_boxes(keras_retrieval.load(tmp_path / "run/model.keras"), ["gone.png"], {}, Reading(drawn, SIDE))
        == []
    )
    write_boxes(boxes, {"a/0.png": [[0, 0, 97, 99]]})
    with pytest.raises(BoxesError, match=r"a box of a/0\.png reaches out of the photo, which is 96 x 72"):
        train_proposals(
            boxes, photos=tmp_path / "photos", output=tmp_path / "other", model=str(drawn / "small.keras"), held_out=0
        )
    write_boxes(boxes, {"a/0.png": []})
    with pytest.raises(ValueError, match="there is no box"):
        train_proposals(
            boxes, photos=tmp_path / "photos", output=tmp_path / "other", model=str(drawn / "small.keras"), held_out=0
        )
    write_boxes(boxes, {"gone.png": [[0, 0, 9, 9]]})
    with pytest.raises(ValueError, match=r"none of the 1 photos with boxes can be read.*gone\.png"):
        train_proposals(
            boxes, photos=tmp_path / "photos", output=tmp_path / "other", model=str(drawn / "small.keras"), held_out=0
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"proposals": 0}, "--proposals must be at least 1, got 0"),
        ({"proposals": 100_000}, "--proposals must be at most 10000, got 100000"),
        ({"lr": 0}, "--lr must be above 0, got 0"),
        ({"held_out": 1}, "--held-out must be below 1, got 1"),
        ({"anchors": "8,x"}, "--anchors must be numbers of cells above 0.*, got 8,x"),
        ({"held_out": 0.9}, "--held-out 0.9 leaves no photo to train on"),
    ],
)
def test_wrong_options_are_named(drawn, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(drawn, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_folders_are_held_out_whole_and_photos_where_there_are_none():
    learned, aside = hold_out([f"{place}/{view}.jpg" for place in "abcde" for view in range(3)], 0.2, 0)
    assert len({Path(name).parent for name in aside}) == 1
    assert not {Path(name).parent for name in aside} & {Path(name).parent for name in learned}
    learned, aside = hold_out([f"{view}.jpg" for view in range(10)], 0.2, 0)
    assert (len(learned), len(aside)) == (8, 2)
    assert hold_out(["a.jpg"], 0, 0) == (["a.jpg"], [])


def test_the_grid_is_compared_as_it_is_pooled():
    boxes = grid_boxes(24, 32, 3)
    assert len(boxes) == 2 + 6 + 12
    found = layers.RMAC(whole_map=False).regions(np.zeros((1, 24, 32, 2), "float32"))
    np.testing.assert_allclose(boxes, np.array(found.boxes)[0], atol=1e-6)
