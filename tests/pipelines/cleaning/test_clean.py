"""The step `clean`, on photos with pasted pictures among unrelated photos."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bench.cleaning import overlap
from pipelines.cleaning import landmark as landmark_cleaning
from pipelines.cleaning.clean import clean
from pipelines.files.durable import FolderError, read_names
from pipelines.photos.landmark_folders import landmark_photos
from pipelines.photos.object_boxes import read_boxes
from pipelines.sfm.colmap import Database
from pipelines.training_tuples.file import read_tuples
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.owned_files import replaceable
from tests.helpers.small_landmarks import paste

pytest.importorskip("pycolmap")


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory):
    """Two landmarks with wrong photos, a broken one and one that EXIF turns; a third folder of nothing in common."""
    folder, truth = tmp_path_factory.mktemp("landmarks") / "photos", {}
    for landmark, name in enumerate(("church", "town hall")):
        for view in range(4):
            truth[f"{name}/{view}.jpg"] = paste(folder / name / f"{view}.jpg", landmark, view)
        paste(folder / name / "wrong.jpg", 7 + landmark, 0)
    for view in range(2):
        paste(folder / "nothing" / f"{view}.jpg", 9 + view, 0)
    (folder / "church" / "broken.jpg").write_bytes((folder / "church" / "0.jpg").read_bytes()[:4000])
    turned = Image.open(folder / "church" / "3.jpg").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned back
    turned.save(folder / "church" / "3.jpg", quality=95, exif=exif)
    return folder, truth


@pytest.fixture(scope="module")
def cleaned(landmarks, tmp_path_factory):
    """Cleaned, stopped at the second landmark and run again."""
    out = tmp_path_factory.mktemp("cleaned") / "out"
    with pytest.MonkeyPatch.context() as patch:
        assess = landmark_cleaning._assess

        def stop(name, *rest):
            if name == "town hall":
                raise KeyboardInterrupt
            return assess(name, *rest)

        patch.setattr(landmark_cleaning, "_assess", stop)
        with pytest.raises(KeyboardInterrupt):
            clean(landmarks[0], out)
    notes = {path: path.stat().st_mtime_ns for path in (out / "landmarks").glob("*/landmark.json")}
    assert {path.parent.name for path in notes} == {"church", "nothing"}
    assert not (out / "cleaning.json").exists()
    clean(landmarks[0], out)
    assert {path: path.stat().st_mtime_ns for path in notes} == notes
    return out


def test_right_photos_are_kept_with_their_boxes(landmarks, cleaned):
    _, truth = landmarks
    assert read_names(cleaned / "kept.txt") == sorted(truth)
    assert not replaceable(cleaned)
    assert not any(map(replaceable, (cleaned / "landmarks").iterdir()))
    left_out = json.loads((cleaned / "left_out.json").read_text())
    assert left_out.pop("church/broken.jpg").startswith("truncated")
    assert left_out.pop("church/wrong.jpg") == left_out.pop("town hall/wrong.jpg")
    assert set(left_out.values()) == {"no group of its landmark has 3 photos: the largest of 2 has 1"}
    boxes = read_boxes(cleaned / "boxes.json")
    assert boxes.keys() == truth.keys()
    assert min(overlap(boxes[name][0], truth[name]) for name in truth) > 0.7


def test_the_report_and_the_page_tell_of_each_landmark(landmarks, cleaned):
    report = json.loads((cleaned / "cleaning.json").read_text())
    counts = {one["name"]: (one["kept"], one["left_out"], one["pairs"]) for one in report["landmarks"]}
    assert counts == {"church": (4, 2, 10), "nothing": (0, 2, 1), "town hall": (4, 1, 10)}
    page = (cleaned / "index.html").read_text()
    assert "town hall: 4 kept" in page
    assert page.count("); background-size: contain; }") == 8


def test_tuples_are_made_of_the_photos_that_are_kept(landmarks, cleaned, tmp_path):
    photos, truth = landmarks
    folder, objects = landmark_photos(cleaned)
    assert folder == photos.resolve()
    assert sorted(objects.of_photo) == sorted(truth)
    tuples = read_tuples(make_tuples(cleaned, tmp_path / "tuples.npz", validation=0, negatives=1))
    assert tuples.images == sorted(truth)
    assert tuples.cluster.tolist() == [0] * 4 + [1] * 4


def test_photos_at_an_address_are_cleaned_as_local_ones(landmarks, cleaned, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    out, place = shutil.copytree(cleaned, tmp_path / "out", symlinks=True), Path("faulty://bucket/photos")
    for link in [path for path in out.rglob("*.jpg") if path.is_symlink()]:
        link.unlink()
    with faulty_storage(monkeypatch) as faults:
        upload(landmarks[0], "bucket/photos")
        faults.every, faults.outage = 5, (0.0, 60.0)
        clean(place, out)
        assert {request for request, _ in faults.requests} == {"find", "read"}
        assert landmark_photos(out)[0] == place
        tuples = read_tuples(make_tuples(out, tmp_path / "tuples.npz", validation=0, negatives=1))
    assert tuples.cluster.tolist() == [0] * 4 + [1] * 4
    for name in ("kept.txt", "boxes.json", "left_out.json", "index.html"):
        assert (out / name).read_bytes() == (cleaned / name).read_bytes(), name


def test_a_damaged_note_is_made_anew_and_a_damaged_database_is_named(landmarks, cleaned, monkeypatch):
    work = cleaned / "landmarks" / "nothing"
    (work / "landmark.json").write_text("[]")
    clean(landmarks[0], cleaned)
    assert json.loads((work / "landmark.json").read_text())["name"] == "nothing"
    monkeypatch.setattr("pipelines.sfm.colmap.LOCKED_SECONDS", 0.0)
    (work / "damaged.db").write_bytes((work / "database.db").read_bytes()[:999])
    with pytest.raises(ValueError, match=r"damaged\.db is not a COLMAP database or is damaged: remove it"):
        Database(work / "damaged.db")


def test_a_changed_option_finds_pairs_again_but_not_features(landmarks, cleaned):
    with pytest.raises(FolderError, match=r"was started with .*--features 8192 --size 1024"):
        clean(landmarks[0], cleaned, features=100)
    with pytest.raises(ValueError, match=r"none of the 13 photos .* is kept; the first: church"):
        clean(landmarks[0], cleaned, min_photos=9)


def test_what_is_in_the_way_is_not_touched(landmarks, tmp_path):
    photos, _ = landmarks
    with pytest.raises(ValueError, match="would be taken for photos"):
        clean(photos, photos / "out")
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FolderError, match="contains something else"):
        clean(photos, tmp_path)
