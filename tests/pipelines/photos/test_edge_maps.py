"""The step `edge-maps`: maps are written to files and read again, and colliding names are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_retrieval.errors import ArgumentError
from pipelines.files.durable import FolderError, read_manifest
from pipelines.files.shards import PLAN
from pipelines.photos import edge_maps as module
from pipelines.photos.edge_maps import edge_maps
from pipelines.photos.edges import MARGIN
from pipelines.photos.reader import read_photo
from pipelines.photos.reading import Reading
from pipelines.photos.sketches import sketch_map
from tests.helpers.faulty_storage import FaultyFileSystem, faulty_storage, upload
from tests.helpers.small import draw_folder
from tests.pipelines.photos.test_sketches import drawn


def test_edge_maps_are_written_as_files_and_read_again(tmp_path, capsys):
    names = draw_folder(tmp_path / "photos" / "sub", 3)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no photo")
    edge_maps(tmp_path / "photos", tmp_path / "maps", size=40)
    assert "left out: broken.png" in capsys.readouterr().out
    assert read_manifest(tmp_path / "maps", kind="edge maps", version=1, verify=True)["count"] == 3
    for name in names:
        expected = Reading(tmp_path / "photos", 40, edges="sobel").read(f"sub/{name}")
        np.testing.assert_array_equal(read_photo(tmp_path / "maps" / "sub" / name), expected)
    with pytest.raises(ValueError, match="was made from other photos or options: --replace"):
        edge_maps(tmp_path / "photos", tmp_path / "maps")
    edge_maps(tmp_path / "photos", tmp_path / "maps", size=40)
    assert "maps is already complete" in capsys.readouterr().out
    (tmp_path / "sketches").mkdir()
    Image.fromarray(drawn()).save(tmp_path / "sketches" / "house.png")
    edge_maps(tmp_path / "sketches", tmp_path / "maps", edges="sketch", replace=True)
    np.testing.assert_array_equal(read_photo(tmp_path / "maps" / "house.png"), sketch_map(drawn(), MARGIN))
    Image.fromarray(np.full((9, 9), 255, np.uint8)).save(tmp_path / "sketches" / "house.png")
    with pytest.raises(ValueError, match=r"no photo has an edge map; the first: house\.png: "):
        edge_maps(tmp_path / "sketches", tmp_path / "empty", edges="sketch")
    assert not (tmp_path / "empty").exists()


def test_photos_of_one_map_s_name_and_maps_among_photos_are_told(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("house.bmp", "house.png"):
        Image.fromarray(drawn()).save(photos / name)
    with pytest.raises(ValueError, match=r"maps is inside .*photos, and its files would be taken for photos"):
        edge_maps(photos, photos / "maps")
    edge_maps(photos, tmp_path / "maps")
    assert "house.png: its map would have the same name as that of house.bmp" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "maps").glob("*.png")] == ["house.png"]


def test_an_empty_kind_is_an_error_that_lists_the_kinds(tmp_path):
    with pytest.raises(ArgumentError, match=r"--edges must be sobel, canny, .* or sketch, got an empty text"):
        edge_maps(tmp_path, tmp_path / "maps", edges="")


def test_a_killed_run_goes_on(tmp_path, monkeypatch, capsys):
    for number in range(6):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(drawn()).save(path)
    read, calls = Reading.read, []

    def stop(self, name, crop=None):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(name)
        return read(self, name, crop)

    with monkeypatch.context() as patch:
        patch.setattr(Reading, "read", stop)
        with pytest.raises(KeyboardInterrupt):
            edge_maps(tmp_path / "photos", tmp_path / "maps", size=40)
    written = len(list(tmp_path.glob("maps.partial/*.png")))
    assert written
    assert not (tmp_path / "maps").exists()
    calls.clear()
    monkeypatch.setattr(Reading, "read", lambda self, name, crop=None: calls.append(name) or read(self, name, crop))
    edge_maps(tmp_path / "photos", tmp_path / "maps", size=40)
    assert len(calls) == 6 - written
    assert "going on with the maps of a run" in capsys.readouterr().out
    assert len(list((tmp_path / "maps").glob("*.png"))) == 6
    assert not list((tmp_path / "maps").glob(".*"))


def test_a_killed_run_with_other_options_begins_anew(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "maps.partial").mkdir()
    (tmp_path / "maps.partial" / PLAN).write_text(json.dumps({"fingerprint": "another", "plan": None}))
    (tmp_path / "maps.partial" / "old.png").write_bytes(b"")
    Image.fromarray(drawn()).save(tmp_path / "photos" / "a.png")
    edge_maps(tmp_path / "photos", tmp_path / "maps", size=40)
    assert "going on" not in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "maps").glob("*.png")] == ["a.png"]


def test_a_map_whose_name_a_disk_cannot_have_costs_itself(tmp_path, monkeypatch, capsys):
    """A storage of objects may have x.png and x.png/y.png, and longer names than a disk."""
    pytest.importorskip("fsspec")
    draw_folder(tmp_path / "photos", 3)
    with faulty_storage(monkeypatch):
        upload(tmp_path / "photos", "bucket/photos")
        for name in ("000.png/deep.png", f"{'x' * 254}.jpg"):
            FaultyFileSystem.store[f"/bucket/photos/{name}"] = FaultyFileSystem.store["/bucket/photos/001.png"]
        edge_maps("faulty://bucket/photos", tmp_path / "maps", size=40)
    said = capsys.readouterr().out
    assert said.count("its map cannot be written under its name") == 2
    assert sum(path.is_file() for path in (tmp_path / "maps").rglob("*.png")) == 3


def test_maps_at_an_address_are_those_of_a_folder_whatever_happens(tmp_path, monkeypatch, capsys):
    pytest.importorskip("fsspec")
    monkeypatch.setattr(module, "UNIT", 3)
    photos, place = tmp_path / "photos", "faulty://bucket/maps"
    draw_folder(photos, 7)
    draw_folder(photos / "a b #%?é", 3)
    (photos / "text.jpg").write_text("no photo")
    edge_maps(photos, tmp_path / "maps", size=40)
    whole = {path.relative_to(tmp_path / "maps").as_posix(): path.read_bytes() for path in tmp_path.glob("maps/**/*.*")}
    with faulty_storage(monkeypatch) as faults:
        upload(photos, "bucket/photos")
        stored = FaultyFileSystem.store

        def written():
            names = {name.removeprefix("/bucket/maps/") for name in stored if "/maps/" in name}
            return {name: stored[f"/bucket/maps/{name}"].getvalue() for name in names}

        met, faults.every = faults.met, 5

        def killed(request, path):
            met(request, path)
            if request == "write" and path.endswith("shard-00002.json"):
                raise KeyboardInterrupt

        faults.met = killed
        with pytest.raises(KeyboardInterrupt):
            edge_maps("faulty://bucket/photos", place, size=40)
        faults.met = met
        edge_maps("faulty://bucket/photos", place, size=40)
        assert "going on with the maps of a run" in capsys.readouterr().out
        edge_maps("faulty://bucket/photos", place, size=40)
        assert f"{place} is already complete" in capsys.readouterr().out
        found, facts = written(), read_manifest(Path(place), kind="edge maps", version=1)
        assert found.keys() == whole.keys() == facts["sha256"].keys() | {"manifest.json"}
        assert all(found[name] == content for name, content in whole.items() if name != "manifest.json")
        with pytest.raises(FolderError, match="made from other photos or options: --replace"):
            edge_maps(photos, place, size=30)
        for name in ("/bucket/photos/000.png", "/bucket/photos/001.png"):
            del stored[name]
        edge_maps("faulty://bucket/photos", place, size=30, replace=True)
        assert written().keys() == whole.keys() - {"000.png", "001.png"}
        stored["/bucket/maps/mine.png"] = stored["/bucket/photos/002.png"]
        with pytest.raises(FolderError, match=r"will not be replaced .it contains mine\.png"):
            edge_maps("faulty://bucket/photos", place, replace=True)


def test_maps_are_not_written_among_the_photos_of_an_address(monkeypatch):
    pytest.importorskip("fsspec")
    with faulty_storage(monkeypatch):
        for place in ("faulty://bucket/photos/maps", "faulty://bucket/photos"):
            with pytest.raises(FolderError, match="is inside faulty://bucket/photos, and its files would be taken"):
                edge_maps("faulty://bucket/photos", place)
