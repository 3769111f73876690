"""Descriptors of crops: each row is that of its box, in the order of the photos, also after a kill."""

import numpy as np
import pytest
from PIL import Image

from keras_retrieval.errors import ArgumentError
from pipelines.descriptors import extraction
from pipelines.descriptors.describer import describe_crops
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import has_crops, read_crops, read_descriptors
from pipelines.descriptors.options import ExtractOptions
from pipelines.files.durable import FolderError, partial_of
from pipelines.photos.grid_crops import grid_boxes
from pipelines.photos.reader import PhotoError, read_photo
from tests.helpers.small import draw

LEVELS = (1, 2)


def mean_colours(images):
    return images.astype("float32").mean((1, 2))


@pytest.fixture
def photos(tmp_path):
    """Photos of three sizes, and one that cannot be read."""
    for number in range(7):
        draw(tmp_path / "photos" / f"{number}.png", 40 + 10 * (number % 2), 60, seed=number)
    draw(tmp_path / "photos" / "tiny.png", 3, 2, seed=9)
    (tmp_path / "photos" / "broken.png").write_bytes((tmp_path / "photos" / "0.png").read_bytes()[:200])
    return tmp_path / "photos"


@pytest.fixture
def by_colours(monkeypatch):
    """Makes `extract` describe photos by their mean colours, without TensorFlow."""
    calls = []

    def described(images):
        calls.append(len(images))
        return mean_colours(images)

    class Network:
        output_shape = (None, 3)

    monkeypatch.setattr(extraction, "_load", lambda options: Network())
    monkeypatch.setattr(extraction, "_compiled", lambda *_, **__: described)
    monkeypatch.setattr(extraction, "smallest_side", lambda network, factors: 1)
    return calls


def extracted(tmp_path, photos, crops="1,2", **options):
    network = tmp_path / "network.keras"
    network.write_bytes(b"a network")
    options = {"precision": "float32", "crops": crops, **options}
    return extraction.extract_descriptors(ExtractOptions(str(network), photos, tmp_path / "out", **options))


def enlarged(box, longest):
    """The width and height of a box whose longer side is `longest`."""
    sides = box[2] - box[0], box[3] - box[1]
    return tuple(max(1, round(side * longest / max(sides))) for side in sides)


def assert_right(folder, photos):
    found = read_crops(folder)
    starts = found.starts
    rows = np.concatenate(found.shards)
    assert sorted(found.names) == sorted(path.name for path in photos.glob("*.png") if path.stem != "broken")
    for name, start, count in zip(found.names, starts, found.counts, strict=True):
        height, width = read_photo(photos / name).shape[:2]
        boxes = grid_boxes(width, height, LEVELS)
        assert found.boxes[start : start + count].tolist() == [list(box) for box in boxes]
        whole = Image.fromarray(read_photo(photos / name))
        expected = [
            np.array(whole.resize(enlarged(box, max(width, height)), Image.Resampling.LANCZOS, box=box)).mean((0, 1))
            for box in boxes
        ]
        np.testing.assert_allclose(rows[start : start + count], expected, atol=1)
    return found


def test_each_row_is_that_of_its_box(tmp_path, photos, by_colours):
    folder = extracted(tmp_path, photos, shard=3)
    found = assert_right(folder, photos)
    assert len(found.shards) == 3
    facts = {key: found.manifest[key] for key in ("version", "crops", "count", "row_count", "left_out")}
    assert facts == {"version": 2, "crops": [1, 2], "count": 8, "row_count": int(found.counts.sum()), "left_out": 1}
    assert max(by_colours) > 5  # crops of several photos are described together
    assert has_crops(folder)
    with pytest.raises(FolderError, match=r"several descriptors per photo \(--crops 1,2\), and one is needed"):
        read_descriptors(folder)


def test_a_killed_run_goes_on_within_a_shard(tmp_path, photos, by_colours, monkeypatch):
    monkeypatch.setattr(extraction, "STORED_EVERY", -1.0)
    monkeypatch.setattr("pipelines.descriptors.describer.WINDOW_BATCHES", 0)  # one photo at a time
    join = extraction._joined

    def killed(batches):
        if len(list(partial_of(tmp_path / "out").glob(".part-*"))) == 3:
            raise KeyboardInterrupt
        return join(batches)

    monkeypatch.setattr(extraction, "_joined", killed)
    with pytest.raises(KeyboardInterrupt):
        extracted(tmp_path, photos)
    monkeypatch.setattr(extraction, "_joined", join)
    done = sum(by_colours)
    found = assert_right(extracted(tmp_path, photos), photos)
    assert sum(by_colours) == int(found.counts.sum()) + (done - 3 * 5)


def test_other_levels_and_none_are_other_folders(tmp_path, photos, by_colours):
    folder = extracted(tmp_path, photos)
    for crops in ("", "1,2,3"):
        with pytest.raises(FolderError, match="made from other photos or options: --replace"):
            extracted(tmp_path, photos, crops)
    assert not has_crops(extracted(tmp_path, photos, "1", replace=True))
    assert read_descriptors(folder)[2]["version"] == 1


def test_a_crop_without_a_descriptor_has_no_row():
    def describe(images):
        return images[:, 0, 0].astype("float32")

    def read(key):
        if key == "unread":
            raise PhotoError(key, "it is damaged")
        values = {"whole": (0, 1), "crop": (1, 0), "both": (1, 1)}[key]
        return [((0, 0, 2, 2), np.full((2, 2, 3), value, np.uint8)) for value in values]

    keys = ["whole", "crop", "unread", "both"]
    (batch,) = describe_crops(describe, [((2, 2), key) for key in keys], read, 2)
    assert batch.keys == ["crop", "both", "both"]
    assert batch.left_out.keys() == {"whole", "unread"}
    assert (batch.photos, batch.boxes.shape) == (4, (3, 4))


def test_crops_of_edge_maps_and_wrong_levels_are_refused_at_once(tmp_path, photos):
    with pytest.raises(ArgumentError, match="--crops is for photos: leave --edges out"):
        extract("vgg16_gem", photos, tmp_path / "out", crops="1,2", edges="sobel")
    with pytest.raises(ArgumentError, match="--crops must begin with 1"):
        extract("vgg16_gem", photos, tmp_path / "out", crops="2")


def test_boxes_that_do_not_fit_the_rows_are_refused(tmp_path, photos, by_colours):
    folder = extracted(tmp_path, photos)
    np.save(folder / "boxes-00000.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(FolderError):
        read_crops(folder)
