"""Localises photos of a drawn wall, whose cameras are known, in a model that was made of them without mapping."""

import csv
import json
import os
import signal
import sqlite3
import tempfile
import time

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.localization import in_models
from keras_retrieval.pipelines.localization.descriptors import read_photo_descriptors
from keras_retrieval.pipelines.localization.errors import LocalizationError
from keras_retrieval.pipelines.localization.pose import Pose
from keras_retrieval.pipelines.localization.query_features import extraction_of
from keras_retrieval.pipelines.localization.results import Localized, write_results
from keras_retrieval.pipelines.photos.formats import PhotoFolderError

from export.localizing.localize import localize
from keras_retrieval.errors import ArgumentError
from keras_retrieval.stopping import terminable
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.small_index import descriptors, indexed, unit
from tests.helpers.small_wall import CAMERA, HELD_OUT, KEPT, draw_wall, write_wall_model

CENTRE = np.array(HELD_OUT["query.png"])


@pytest.fixture(scope="module")
def wall(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wall")
    draw_wall(folder / "photos", KEPT)
    draw_wall(folder / "queries", HELD_OUT)
    write_wall_model(folder / "photos", folder / "work")
    return folder


def off(found):
    """The distance of a camera centre from the true one."""
    return np.linalg.norm(np.array(found.pose.centre) - CENTRE)


def test_a_photo_that_was_held_out_is_localised(wall):
    (found,) = localize(wall / "work", wall / "work", [wall / "queries"], neighbours=0, camera=CAMERA)
    assert off(found) < 0.005
    assert found.pose.inliers > 500
    assert found.model == wall / "work" / "models" / "0"
    assert sorted(found.neighbours) == sorted(KEPT)


@pytest.mark.parametrize("camera", ["auto", "model"])
def test_the_focal_length_need_not_be_known(wall, camera):
    (found,) = localize(wall / "work", wall / "work", [wall / "queries"], neighbours=0, camera=camera)
    assert off(found) < 0.05
    assert found.pose.camera.mean_focal_length() == pytest.approx(400, rel=0.02)


def test_bad_queries_cost_only_themselves_and_every_form_is_written(wall, tmp_path, capsys):
    draw_wall(tmp_path / "other", {"elsewhere.png": (0.3, 0.1, -3.0)}, seed=9)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    (tmp_path / "list of queries.txt").write_text(
        f"# comment\n{wall / 'queries' / 'query.png'} {CAMERA}\nmissing photo.jpg\n", encoding="utf-8"
    )
    queries = [tmp_path / "list of queries.txt", tmp_path / "broken.jpg", tmp_path / "other", wall / "photos"]
    found = localize(wall / "work", wall / "work", queries, neighbours=0, output=tmp_path / "poses.json")
    assert [one.pose is not None for one in found] == [True, False, False, False, True, True, True]
    assert off(found[0]) < 0.005
    for ending in ("csv", "txt"):
        write_results(tmp_path / f"poses.{ending}", found)
    assert "missing photo.jpg: not localised: " in capsys.readouterr().out
    photos = json.loads((tmp_path / "poses.json").read_text())["photos"]
    assert [bool(one.get("reason")) for one in photos] == [False, True, True, True, False, False, False]
    assert photos[0]["camera"] == {
        "model": "SIMPLE_PINHOLE", "width": 320, "height": 240, "parameters": [400.0, 160.0, 120.0],
    }  # fmt: skip
    with (tmp_path / "poses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(rows[0][axis]) for axis in "xyz"] == pytest.approx(CENTRE, abs=0.005)
    assert rows[1]["localized"] == "0"
    assert rows[1]["reason"]
    lines = [line.split() for line in (tmp_path / "poses.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == ["query.png", *sorted(KEPT)]
    assert [float(number) for number in lines[0][1:5]] == pytest.approx(photos[0]["rotation"], abs=1e-6)


def test_the_most_similar_photos_are_matched(wall, tmp_path, monkeypatch):
    rows = np.eye(3, 4, dtype=np.float32)
    index = descriptors(tmp_path / "descriptors", rows, [*KEPT])
    monkeypatch.setattr(
        in_models, "describe_queries", lambda facts, paths, *_, **__: (dict.fromkeys(paths, rows[1]), {})
    )
    (found,) = localize(index, wall / "work", [wall / "queries" / "query.png"], neighbours=1, camera=CAMERA)
    assert found.neighbours == ("middle.png",)
    assert off(found) < 0.01


def test_the_photos_of_a_model_are_found_by_an_index_of_more_photos(wall, tmp_path, monkeypatch):
    rows = np.eye(5, 8, dtype=np.float32)
    names = ["unregistered.png", *KEPT, "other.png"]
    query = unit(np.array([[4, 1, 3, 2, 5, 0, 0, 0]], np.float32))[0]
    index = indexed(tmp_path, rows, names)
    monkeypatch.setattr(in_models, "describe_queries", lambda facts, paths, *_, **__: (dict.fromkeys(paths, query), {}))
    found = localize(index, wall / "work", [wall / "queries" / "query.png"], neighbours=2, camera=CAMERA)
    assert found[0].neighbours == ("middle.png", "right.png")
    assert off(found[0]) < 0.01
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    query_file, work = [wall / "queries" / "query.png"], wall / "work"
    with faulty_storage(monkeypatch) as faults:
        upload(tmp_path / "index", "bucket/index")
        faults.every, faults.outage = 7, (0.0, 60.0)
        (there,) = localize("faulty://bucket/index", work, query_file, neighbours=2, camera=CAMERA)
        with pytest.raises(FolderError, match="faulty://bucket/none"):
            localize("faulty://bucket/none", work, query_file)
    assert (there.neighbours, off(there)) == (found[0].neighbours, off(found[0]))


def test_a_camera_of_another_size_is_no_camera_of_the_query(wall):
    (found,) = localize(
        wall / "work", wall / "work", [wall / "queries"], neighbours=0, camera="PINHOLE 640 480 800 800 320 240"
    )
    assert found.pose is None
    assert "320 x 240" in found.reason


def test_what_does_not_fit_the_model_is_named(wall, tmp_path):
    query = [wall / "queries" / "query.png"]
    with pytest.raises(LocalizationError, match=r"no descriptors.*--neighbours 0"):
        localize(wall / "work", wall / "work", query)
    other = descriptors(tmp_path / "descriptors", np.eye(2, dtype=np.float32), ["a.jpg", "b.jpg"])
    with pytest.raises(LocalizationError, match="describes no photo of the model"):
        localize(other, wall / "work", query)
    (tmp_path / "one").mkdir()
    index = indexed(tmp_path / "one", np.eye(2, 8, dtype=np.float32), ["a.jpg", "b.jpg"])
    with pytest.raises(LocalizationError, match=r"index describes no photo of the model"):
        localize(index, wall / "work", query)
    with pytest.raises(FolderError, match="neither an index"):
        localize(wall / "photos", wall / "work", query, neighbours=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PhotoFolderError, match="it is empty"):
        localize(wall / "work", wall / "work", [tmp_path / "empty"], neighbours=0)
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(LocalizationError, match="there is no photo in"):
        localize(wall / "work", wall / "work", [tmp_path / "list.txt"], neighbours=0)
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    with pytest.raises(ArgumentError, match=r"none of the 1 queries can be used; the first is .*broken\.jpg"):
        localize(wall / "work", wall / "work", [tmp_path / "broken.jpg"], neighbours=0)


def test_a_database_of_other_features_is_refused(wall, tmp_path):
    query = [wall / "queries" / "query.png"]
    with sqlite3.connect(wall / "work" / "database.db") as source, sqlite3.connect(tmp_path / "other.db") as copy:
        source.backup(copy)
        copy.execute("UPDATE keypoints SET rows = rows - 1, data = substr(data, 1, length(data) - cols * 4)")
    with pytest.raises(LocalizationError, match=r"other\.db has .* features of the photo .*--database"):
        localize(wall / "work", wall / "work", query, neighbours=0, database=tmp_path / "other.db")
    with sqlite3.connect(tmp_path / "other.db") as copy:
        copy.execute("UPDATE images SET name = name || 'x'")
    with pytest.raises(LocalizationError, match=r"does not contain the photo left\.png"):
        localize(wall / "work", wall / "work", query, neighbours=0, database=tmp_path / "other.db")


@pytest.mark.parametrize(
    "options",
    [
        "[]", "{}", "null", '{"features": 3}', '{"features": "sift", "size": 320}', '{"features": null, "size": 320}',
        '{"features": "sift", "feature_count": "x", "size": 320}',
    ],
)  # fmt: skip
def test_damaged_options_of_the_extraction_are_named(tmp_path, options):
    (tmp_path / "options.json").write_text(options)
    with pytest.raises(FolderError, match=r"options\.json is damaged"):
        extraction_of(tmp_path / "database.db")


def test_an_extractor_that_is_gone_and_damaged_descriptors_are_named(tmp_path):
    (tmp_path / "options.json").write_text('{"features": "/gone.onnx", "feature_count": 9, "size": 320}')
    with pytest.raises(LocalizationError, match=r"made with /gone\.onnx, which no longer exists"):
        extraction_of(tmp_path / "database.db")
    folder = tmp_path / "descriptors-0"
    folder.mkdir()
    (folder / "made_with.json").write_text('{"model": {"name": "vgg16_gem"}, "size": 320}')
    (folder / "0.npy").write_bytes(b"x")
    with pytest.raises(FolderError, match=r"descriptors-0 is damaged"):
        read_photo_descriptors(tmp_path)


def test_a_stopped_run_leaves_no_temporary_folder(wall, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    output = tmp_path / "poses.json"

    def stop(*_):
        assert list((tmp_path / "temporary").glob("localize-*/queries.db"))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3)

    monkeypatch.setattr(in_models.Localizer, "localize", stop)
    with pytest.raises(SystemExit) as end, terminable():
        localize(wall / "work", wall / "work", [wall / "queries" / "query.png"], neighbours=0, output=output)
    assert end.value.code == 143
    assert not list((tmp_path / "temporary").glob("localize-*"))
    assert not output.exists()


def test_a_list_of_queries_is_never_replaced_and_its_cameras_are_checked(wall, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"{wall / 'queries' / 'query.png'} SIMPLE_RADIAL 320 240 400\n")
    with pytest.raises(ArgumentError, match=r"list\.txt is one of QUERIES"):
        localize(wall / "work", wall / "work", [path], neighbours=0, output=path)
    with pytest.raises(FolderError, match=r"report\.json is part of .*, which contains a reconstruction"):
        localize(wall / "work", wall / "work", [path], neighbours=0, output=wall / "work" / "report.json")
    with pytest.raises(LocalizationError, match=r"SIMPLE_RADIAL 320 240 400, after .*query\.png, is no camera"):
        localize(wall / "work", wall / "work", [path], neighbours=0)


def test_names_that_a_text_file_of_poses_cannot_have_are_left_out_of_it(tmp_path, caplog):
    names = ["a b.png", "#c.png", "d\n.png", "e.png"]
    pose = Pose((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0), None, 40, 50)
    write_results(tmp_path / "poses.txt", [Localized(tmp_path / name, pose) for name in names])
    assert (tmp_path / "poses.txt").read_text() == "e.png 1.0 0.0 0.0 0.0 0.0 0.0 1.0\n"
    assert "3 photos are left out of the .txt file" in caplog.text
