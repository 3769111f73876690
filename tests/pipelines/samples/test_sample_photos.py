import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.files.durable import FolderError, partial_of, read_manifest
from pipelines.samples import collection as drawing
from pipelines.samples.buildings import make_building
from pipelines.samples.camera import box_of, place_camera
from pipelines.samples.mesh import make_mesh
from pipelines.samples.renderer import SAMPLES, Camera, view_from
from pipelines.samples.sample_photos import sample_photos

OPTIONS = {"buildings": 3, "views": 3, "size": 128, "seed": 5}
FIRST_TWO = OPTIONS | {"buildings": 2}


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    return sample_photos(tmp_path_factory.mktemp("drawn") / "photos", **OPTIONS, workers=1)


@pytest.fixture(scope="module")
def two_buildings(tmp_path_factory) -> Path:
    """The first two buildings of `collection`, drawn by two processes."""
    return sample_photos(tmp_path_factory.mktemp("drawn") / "two", **FIRST_TWO, workers=2)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _scene(folder: Path) -> list[dict]:
    return json.loads((folder / "scene.json").read_text())["buildings"]


def _grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"), float)


def _camera(photo: dict) -> Camera:
    K, R, t = (np.array(photo[name]) for name in "KRt")
    return Camera(K, R, t, photo["width"], photo["height"])


def test_collection_is_whole(collection):
    manifest = read_manifest(collection, kind="sample photos", version=1, verify=True)
    assert manifest["options"] == OPTIONS
    assert not partial_of(collection).exists()
    photos = sorted(str(p.relative_to(collection)) for p in collection.glob("*/*.jpg"))
    assert photos == sorted(photo["name"] for building in _scene(collection) for photo in building["photos"])
    assert [len(building["photos"]) for building in _scene(collection)] == [3, 3, 3]
    assert {p.name for p in collection.iterdir() if p.is_file()} == {"manifest.json", "scene.json", "positions.csv"}
    for building in _scene(collection):
        for photo in building["photos"]:
            width, height = Image.open(collection / photo["name"]).size
            assert (width, height) == (photo["width"], photo["height"])
            assert max(width, height) == OPTIONS["size"]


def test_positions_are_those_of_the_cameras_along_a_street(collection):
    rows = list(csv.DictReader((collection / "positions.csv").open()))
    scene = _scene(collection)
    photos = [(number, photo) for number, building in enumerate(scene) for photo in building["photos"]]
    assert [row["photo"] for row in rows] == [photo["name"] for _, photo in photos]
    spots = np.array([[float(row["east"]), float(row["north"])] for row in rows])
    for spot, (number, photo) in zip(spots, photos, strict=True):
        R, t = np.array(photo["R"]), np.array(photo["t"])
        in_camera = R @ [spot[0] - drawing.BLOCK * number, spot[1], 0] + t
        np.testing.assert_allclose((R.T @ in_camera)[:2], 0, atol=1e-3)
    of = np.array([number for number, _ in photos])
    apart = np.linalg.norm(spots[:, None] - spots[None], axis=2)
    assert apart[of[:, None] != of].min() > 25


def test_same_seed_same_bytes_with_any_workers(collection, two_buildings):
    """A building depends on the seed and its number only, not on how many others are drawn."""
    photos = {name: data for name, data in _files(two_buildings).items() if name.endswith(".jpg")}
    assert len(photos) == 6
    assert photos.items() <= _files(collection).items()
    assert _scene(two_buildings) == _scene(collection)[:2]
    positions = [(folder / "positions.csv").read_text() for folder in (two_buildings, collection)]
    assert positions[1].startswith(positions[0])


def test_other_seed_draws_other_photos(tmp_path, collection):
    other = sample_photos(tmp_path / "other", buildings=1, views=1, size=128, seed=6)
    first = Image.open(collection / "town-hall/01.jpg").resize((64, 64))
    second = Image.open(other / "town-hall/01.jpg").resize((64, 64))
    assert np.abs(np.asarray(first, float) - np.asarray(second, float)).mean() > 8


def test_boxes_bound_the_projected_geometry(collection):
    for building in _scene(collection):
        for photo in building["photos"]:
            K, R, t = (np.array(photo[name]) for name in "KRt")
            xs, ys = [], []
            for point in building["points"]:
                x, y, z = K @ (R @ np.array(point) + t)
                assert z > 0
                xs.append(min(max(x / z, 0), photo["width"]))
                ys.append(min(max(y / z, 0), photo["height"]))
            assert photo["box"] == pytest.approx([min(xs), min(ys), max(xs), max(ys)], abs=1e-6)
            area = (max(xs) - min(xs)) * (max(ys) - min(ys))
            assert area > 0.1 * photo["width"] * photo["height"]


def test_boxes_are_tight_on_what_is_drawn():
    model = make_building(6, 3)
    mesh = make_mesh(model.faces, model.sheets)
    points = np.concatenate([face.corners for face in model.faces])
    camera = place_camera(np.random.default_rng(0), points, 20, 240)
    view = view_from(camera, mesh)
    view.draw_all()
    rows, columns = np.nonzero(view.ids >= 0)
    drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SAMPLES
    assert drawn == pytest.approx(box_of(camera, points), abs=1.5)


def test_cameras_are_rigid_and_go_round(collection):
    for building in _scene(collection):
        sides = []
        for photo in building["photos"]:
            R = np.array(photo["R"])
            assert pytest.approx(np.eye(3), abs=1e-9) == R @ R.T
            assert np.linalg.det(R) == pytest.approx(1)
            centre = _camera(photo).centre
            sides.append(np.degrees(np.arctan2(centre[0], -centre[1])))
        assert np.all(np.diff(sides) > 8)


def test_things_in_front_leave_enough_to_see(collection):
    covered = [photo["covered"] for building in _scene(collection) for photo in building["photos"]]
    assert max(covered) <= drawing.HIDDEN
    assert max(covered) > 0


def test_neighbouring_views_show_the_same_surface(tmp_path):
    folder = sample_photos(tmp_path / "near", buildings=1, views=6, size=360, seed=0)
    model = make_building(0, 0)
    wall = max((f for f in model.faces if f.corners[:, 1].max() < 0.1), key=lambda f: np.ptp(f.corners[:, 0]))
    low, high = wall.corners.min(0), wall.corners.max(0)
    x, z = np.meshgrid(np.linspace(low[0] + 1, -3, 70), np.linspace(4.0, high[2] - 0.5, 60))
    photos = _scene(folder)[0]["photos"]
    right, wrong = [], []
    for first, second in pairwise(photos):
        here = _sampled(folder, first, x, z)
        right.append(np.corrcoef(here, _sampled(folder, second, x, z))[0, 1])
        wrong.append(np.corrcoef(here, _sampled(folder, second, x + 0.9, z + 0.7))[0, 1])
    assert np.median(right) > 0.6
    assert np.median(right) > np.median(wrong) + 0.3


def _sampled(folder: Path, photo: dict, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    grey = _grey(folder / photo["name"])
    points = np.stack([x, np.zeros_like(x), z], -1).reshape(-1, 3)
    column, row, _ = _camera(photo).project(points).T
    column = column.astype(int).clip(0, photo["width"] - 1)
    return grey[row.astype(int).clip(0, photo["height"] - 1), column]


def test_photos_differ_across_buildings(collection):
    colours = []
    for building in _scene(collection):
        photo = building["photos"][1]
        left, top, right, bottom = photo["box"]
        picture = Image.open(collection / photo["name"]).crop((left, top, right, bottom)).resize((16, 16))
        colours.append(np.asarray(picture, float))
    for i, first in enumerate(colours):
        for second in colours[i + 1 :]:
            assert np.abs(first - second).mean() > 15


def test_whole_folder_is_left_alone(collection, caplog):
    caplog.set_level("INFO")
    before = {path: path.stat().st_mtime_ns for path in collection.rglob("*")}
    assert sample_photos(collection, **OPTIONS) == collection
    assert "is complete already" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in collection.rglob("*")} == before
    with pytest.raises(FolderError, match=r"other options .*views 3.*name another folder"):
        sample_photos(collection, **(OPTIONS | {"views": 4}))


def test_stopped_run_goes_on(two_buildings, tmp_path, monkeypatch):
    """And its files are the same bytes as those of an unbroken run with more workers."""
    out, draw = tmp_path / "photos", drawing._draw_building

    def stop_at_second(partial: Path, number: int, *rest: int) -> None:
        if number == 1:
            raise KeyboardInterrupt
        draw(partial, number, *rest)

    monkeypatch.setattr(drawing, "_draw_building", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        sample_photos(out, **FIRST_TWO, workers=1)
    assert not out.exists()
    drawn = []

    def note(partial: Path, number: int, *rest: int) -> None:
        drawn.append(number)
        draw(partial, number, *rest)

    monkeypatch.setattr(drawing, "_draw_building", note)
    sample_photos(out, **FIRST_TWO, workers=1)
    assert drawn == [1]
    assert _files(out) == _files(two_buildings)


@pytest.mark.parametrize(
    ("option", "least"), [("buildings", 1), ("views", 1), ("size", 64), ("seed", 0), ("workers", 0)]
)
def test_bad_options_are_named(tmp_path, option, least):
    value = least - 1
    with pytest.raises(ValueError, match=f"--{option} must be at least {least}, got {value}"):
        sample_photos(tmp_path / "photos", **{option: value})
    assert not (tmp_path / "photos").exists()


def test_bad_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot be written"):
        sample_photos(tmp_path / "file" / "photos", buildings=1, views=1, size=64)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("kept")
    with pytest.raises(FolderError, match="not a folder of sample photos"):
        sample_photos(tmp_path / "mine", buildings=1, views=1, size=64)
    assert (tmp_path / "mine" / "a.txt").read_text() == "kept"


def test_smallest_collection_into_an_empty_folder(tmp_path):
    out = tmp_path / "empty"
    out.mkdir()
    sample_photos(out, buildings=1, views=1, size=64)
    assert max(Image.open(out / "town-hall/01.jpg").size) == 64
