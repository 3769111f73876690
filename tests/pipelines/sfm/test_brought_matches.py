"""A reconstruction from a database of the user: points before and behind a drawn wall, which all photos see."""

import json
import os
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Transpose

from keras_retrieval.errors import ArgumentError
from pipelines.files.durable import FolderError
from pipelines.localization.errors import LocalizationError
from pipelines.localization.query_features import extraction_of
from pipelines.sfm.brought_matches import BroughtMatches, turned
from pipelines.sfm.colmap import Database
from pipelines.sfm.errors import ReconstructionError
from pipelines.sfm.options import ReconstructOptions
from pipelines.sfm.reconstruct import reconstruct
from tests.helpers.small_wall import FOCAL, HEIGHT, WIDTH, draw_wall, project

pycolmap = pytest.importorskip("pycolmap")

CENTRES = {
    "a/1 one.png": (-1.2, 0.2, -3.2), "a/2.png": (-0.5, -0.3, -3.0), "a/3.png": (0.2, 0.3, -3.3),
    "turned.jpg": (0.8, -0.1, -3.1), "b.png": (1.3, 0.1, -3.4),
}  # fmt: skip
MISSING, ELSEWHERE = "missing.png", "elsewhere.png"


def write_database(path, *, left_out=(), matches=True):
    """A database as hloc writes it: keypoints without descriptors, and raw matches, a fifth of which are wrong."""
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-1, 1, (200, 2)), rng.uniform(-0.6, 0.6, 200)])
    names = [name for name in (*CENTRES, ELSEWHERE) if name not in left_out]
    with pycolmap.Database.open(path) as database:
        camera = pycolmap.Camera(
            model="SIMPLE_PINHOLE", width=WIDTH, height=HEIGHT, params=[FOCAL, WIDTH / 2, HEIGHT / 2],
            has_prior_focal_length=True,
        )  # fmt: skip
        camera.camera_id = database.write_camera(camera)
        turned_camera = pycolmap.Camera(
            model="SIMPLE_PINHOLE", width=HEIGHT, height=WIDTH, params=[FOCAL, HEIGHT / 2, WIDTH / 2]
        )
        turned_camera.camera_id = database.write_camera(turned_camera)
        rows, numbers = {}, {}
        for name in names:
            raw = turned_camera if name == "turned.jpg" else camera
            numbers[name] = database.write_image(pycolmap.Image(name=name, camera_id=raw.camera_id))
            rows[name] = rng.permutation(200)
            places = project(points, CENTRES.get(name, (0, 0, -3)))[rows[name]]
            if name == "turned.jpg":  # its pixels are stored turned by 90 degrees against the clock
                places = np.column_stack([places[:, 1], WIDTH - places[:, 0]])
            database.write_keypoints(numbers[name], np.column_stack([places, np.ones((200, 2))]).astype(np.float32))
        for one in names if matches else ():
            for other in names[: names.index(one)]:
                found = np.stack([np.argsort(rows[one]), np.argsort(rows[other])], axis=1)
                found[::5, 1] = rng.integers(0, 200, len(found[::5]))
                database.write_matches(numbers[one], numbers[other], found.astype(np.uint32))
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brought") / "photos"
    (folder / "a").mkdir(parents=True)
    draw_wall(folder, {name.replace("turned.jpg", "upright.png"): centre for name, centre in CENTRES.items()})
    draw_wall(folder, {MISSING: (0.0, 0.0, -3.0)})
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees with the clock to be shown
    upright = Image.open(folder / "upright.png")
    upright.transpose(Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif, quality=95)
    (folder / "upright.png").unlink()
    return folder


@pytest.fixture(scope="module")
def done(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    database = write_database(folder / "hloc.db", left_out=["b.png"])
    before = database.read_bytes()
    reconstruct(photos, folder / "work", database=database, min_photos=3)
    assert database.read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["hloc.db", "work"]
    return folder


def test_matches_of_another_matcher_are_verified_and_mapped(done):
    report = json.loads((done / "work" / "report.json").read_text())
    assert [cluster["photos"] for cluster in report["clusters"]] == [
        ["a/1 one.png", "a/2.png", "a/3.png", "turned.jpg"]
    ]
    assert report["left_out"] == dict.fromkeys(("b.png", MISSING), "the database hloc.db does not have it")
    assert report["rounds"] == [{"by": "database", "pairs": 6, "verified": 6}]
    (model,) = (done / "work").glob("models/*/0")
    found = pycolmap.Reconstruction(model)
    assert found.compute_mean_reprojection_error() < 0.1
    assert {found.images[number].camera_id for number in found.reg_image_ids()} == {1, 2**30 + 4}
    centres = np.array([CENTRES[name] for name in report["clusters"][0]["photos"]])
    mapped = {image.name.replace("%20", " "): image.projection_center() for image in found.images.values()}
    places = np.array([mapped[name] for name in report["clusters"][0]["photos"]])
    similar = pycolmap.estimate_sim3d(places, centres)
    assert np.abs(np.array([similar * place for place in places]) - centres).max() < 0.05


def test_photos_and_images_without_counterpart_are_printed_and_the_database_may_grow(photos, done, capsys):
    other = write_database(done / "other.db", left_out=["a/1 one.png"])
    with pytest.raises(ReconstructionError, match=r"other\.db has changed since .*work was started \(the ID of .*a/2"):
        reconstruct(photos, done / "work", database=other, min_photos=3)
    again = done / "hloc.db"
    with sqlite3.connect(again) as copy:
        copy.execute("UPDATE images SET name = 'b.png' WHERE name = ?", [ELSEWHERE])
    capsys.readouterr()
    reconstruct(photos, done / "work", database=again, min_photos=3)
    report = json.loads((done / "work" / "report.json").read_text())
    assert report["rounds"][0]["pairs"] == 10
    printed = capsys.readouterr().out
    assert "5 of 6 photos, 10 pairs with matches" in printed
    assert f"photos that it does not have: 1 ({MISSING})" in printed


def test_the_folder_stays_one_of_a_database(photos, done):
    with pytest.raises(FolderError, match=r"work was started with --database: name that file, or name another"):
        reconstruct(photos, done / "work", pairs="exhaustive")
    with pytest.raises(LocalizationError, match="were brought from another database"):
        extraction_of(done / "work" / "database.db")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE images SET name = 'x/' || name || '.x'", "none of its images is a photo of the folder"),
        ("UPDATE images SET name = './a/2.png' WHERE name = 'a/3.png'", r"are both the photo a/2\.png"),
        ("DELETE FROM matches", r"hloc\.db has no matches of two photos of the folder: match their features first"),
        ("DROP TABLE keypoints", "is not a COLMAP database, or is damaged"),
        ("UPDATE keypoints SET data = substr(data, 9)", r"the keypoints of a/1 one\.png have 200 rows of 4"),
        ("UPDATE matches SET data = CAST(substr(data, 9) || x'ffff0000ffff0000' AS BLOB)", "the feature 65,535 of"),
        ("UPDATE keypoints SET rows = 'x'", r"the keypoints of a/1 one\.png have x rows of 4"),
        ("DROP TABLE matches; CREATE TABLE matches (pair_id, rows); INSERT INTO matches VALUES ('x', 1)", "pair .* x"),
        ("DROP TABLE images; CREATE TABLE images (image_id, name, camera_id); "
         "INSERT INTO images VALUES (1, 'b.png', 1), (1, 'a/2.png', 1)", "the ID of an image is 1"),
        ("UPDATE images SET name = CAST(x'ff2e706e67' AS TEXT) WHERE name = 'b.png'", "is damaged .*decode to UTF-8"),
        ("PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = CAST(x'ff90' AS TEXT) WHERE name = 'cameras'",
         "is not a COLMAP database, or is damaged"),
        ("UPDATE cameras SET params = zeroblob(8)", "its camera 1"),
        ("DELETE FROM cameras", r"the camera 1 of a/1 one\.png is missing"),
        ("UPDATE cameras SET width = 99", "all 6 photos are unusable.* 320 x 240 pixels, and 99 x 240"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_database_is_named(photos, tmp_path, change, message):
    path = write_database(tmp_path / "hloc.db")
    with closing(sqlite3.connect(path)) as copy:
        copy.execute("PRAGMA foreign_keys = OFF")
        copy.executescript(change)
        copy.commit()
    with pytest.raises(ReconstructionError, match=message):
        reconstruct(photos, tmp_path / "work", database=path, min_photos=3)


def test_a_file_that_is_no_database_leaves_no_folder(photos, tmp_path):
    (tmp_path / "no.db").write_bytes(b"x" * 100)
    with pytest.raises(ReconstructionError, match="is not a COLMAP database"):
        reconstruct(photos, tmp_path / "work", database=tmp_path / "no.db")
    assert not (tmp_path / "work").exists()
    with pytest.raises(ArgumentError, match="is the database of WORK itself"):
        ReconstructOptions("photos", tmp_path, database=tmp_path / "database.db")
    assert ReconstructOptions("photos", "work", database=tmp_path / "no.db").feature_count == 8192
    for name, value in {"pairs": "exhaustive", "size": 800, "feature_count": 9, "neighbours": 3}.items():
        label = f"--{name.replace('_', '-')}"
        with pytest.raises(ArgumentError, match=f"{label} has no effect with --database"):
            ReconstructOptions("photos", "work", database=tmp_path / "no.db", **{name: value})


def test_a_database_is_read_while_another_program_writes_to_it(tmp_path, monkeypatch):
    path = write_database(tmp_path / "hloc.db", matches=False)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("UPDATE images SET name = 'new.png' WHERE name = 'b.png'")
        writer.commit()
        assert BroughtMatches(path).choose(["new.png"])
        (tmp_path / "hloc.db").write_bytes(b"SQLite format 3\0")
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(ReconstructionError, match=r"has changes in hloc\.db-wal.*: copy both files into another"):
            BroughtMatches(path)


def test_a_database_that_may_not_be_written_is_not_to_be_removed(tmp_path, monkeypatch):
    (tmp_path / "database.db").write_bytes(b"of someone else")
    with pytest.raises(ReconstructionError, match="remove it"):
        Database(tmp_path / "database.db")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ReconstructionError, match="there is no permission: copy it to a folder of your own"):
        Database(tmp_path / "database.db")


def test_inliers_are_used_where_there_are_no_raw_matches(tmp_path):
    path = write_database(tmp_path / "hloc.db", matches=False)
    with pycolmap.Database.open(path) as database:
        geometry = pycolmap.TwoViewGeometry(inlier_matches=np.array([[3, 4], [5, 6]], np.uint32))
        database.write_two_view_geometry(2, 1, geometry)
    brought = BroughtMatches(path)
    assert brought.choose(list(CENTRES)) == [ELSEWHERE]
    assert brought.pairs == [("a/1 one.png", "a/2.png")]
    assert brought.matches(("a/2.png", "a/1 one.png")).tolist() == [[3, 4], [5, 6]]
    assert brought.matches(("a/1 one.png", "a/2.png")).tolist() == [[4, 3], [6, 5]]


@pytest.mark.parametrize("turn", list(Transpose))
def test_points_are_turned_as_pixels_are(turn):
    pixels = np.zeros((5, 7), np.uint8)
    pixels[1, 4] = 255
    upright = np.array(Image.fromarray(pixels).transpose(turn))
    (y,), (x,) = np.nonzero(upright)
    assert turned(np.array([[4.5, 1.5]]), turn, 7, 5).tolist() == [[x + 0.5, y + 0.5]]
