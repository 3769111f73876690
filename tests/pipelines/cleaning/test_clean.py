"""Cleaning of landmarks' folders: medians, boxes carried over a graph, and pasted pictures found among others."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cleaning import overlap
from pipelines.cleaning import landmark as landmark_cleaning
from pipelines.cleaning.box_diffusion import Carry, carried, diffuse, geometric_medians
from pipelines.cleaning.clean import clean
from pipelines.cleaning.landmark import _reasons
from pipelines.files.durable import FolderError, read_names
from pipelines.photos.landmark_folders import by_landmark, cleaned_photos, landmark_photos
from pipelines.photos.object_boxes import read_boxes
from pipelines.sfm.colmap import Database
from pipelines.training_tuples.file import read_tuples
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.small_landmarks import paste

pytest.importorskip("pycolmap")


# --- boxes on a graph --------------------------------------------------------------------------------------------


def test_the_geometric_median_has_the_least_sum_of_distances():
    rng = np.random.default_rng(0)
    owner = rng.permutation(np.repeat(np.arange(5), [1, 2, 3, 8, 30]))
    points = rng.normal(size=(len(owner), 4)) * 50
    medians = geometric_medians(points, owner, 5)
    np.testing.assert_allclose(medians[0], points[owner == 0][0], atol=1e-4)
    for number, median in enumerate(medians):
        own = points[owner == number]
        least = np.linalg.norm(own - median, axis=1).sum()
        for shift in rng.normal(size=(50, 4)):
            assert least <= np.linalg.norm(own - median - shift, axis=1).sum() + 1e-4


def test_the_geometric_median_passes_over_what_is_far_off():
    points = np.array([[10.0, 10], [11, 10], [10, 11], [9000, -5000]])
    assert np.abs(geometric_medians(points, np.zeros(4, int), 1) - 10.4).max() < 0.7


def test_a_carried_box_bounds_the_carried_corners():
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, 100, (20, 2, 2)), axis=1).reshape(20, 4)
    affines = rng.normal(size=(20, 2, 3))
    for (left, top, right, bottom), affine, found in zip(boxes, affines, carried(boxes, affines), strict=True):
        corners = [affine @ (x, y, 1) for x in (left, right) for y in (top, bottom)]
        np.testing.assert_allclose(found, [*np.min(corners, axis=0), *np.max(corners, axis=0)])


def views(count, rng):
    """Photos 400 x 300 of a square, each nearer or farther and shifted: its boxes, and the affines between them."""
    zoom, shift = rng.uniform(0.7, 1.4, count), rng.uniform(-30, 30, (count, 2))
    boxes = np.concatenate([zoom[:, None] * (-60, -60) + shift, zoom[:, None] * (60, 60) + shift], axis=1) + 150
    affines = {}
    for one in range(count):
        for other in range(count):
            scale = zoom[other] / zoom[one]
            move = 150 + shift[other] - scale * (150 + shift[one])
            affines[one, other] = np.array([[scale, 0, move[0]], [0, scale, move[1]]])
    return boxes, affines


def test_parts_that_pairs_see_are_joined_to_one_box_in_every_photo():
    rng = np.random.default_rng(0)
    boxes, affines = views(8, rng)
    edges = []
    for (one, other), affine in affines.items():
        if one == other:
            continue
        sides = boxes[other] + rng.normal(size=4) * 12  # the matches of a pair reach not as far, or farther
        wrong = rng.random() < 0.15
        edges.append(Carry(one, other, affine + 80 * wrong, sides + 90 * wrong))
    found, steps = diffuse(edges, np.tile([400, 300], (8, 1)))
    first = geometric_medians(np.stack([edge.bounds for edge in edges]), np.array([edge.target for edge in edges]), 8)
    assert 1 < steps < 1000
    assert min(overlap(*both) for both in zip(found, boxes, strict=True)) > 0.85
    apart = [
        np.abs(boxes_now - carried(boxes_now[[0] * 8], np.stack([affines[0, other] for other in range(8)]))).max()
        for boxes_now in (first, found)
    ]
    assert apart[1] < 0.5 * apart[0]  # the boxes of all photos have come to mean one thing


def test_boxes_stay_in_their_photos_and_every_photo_needs_a_pair():
    grow = np.array([[2.0, 0, 0], [0, 2, 0]])
    edges = [Carry(0, 1, grow, np.array([10.0, 10, 20, 20])), Carry(1, 0, grow, np.array([10.0, 10, 20, 20]))]
    found, _ = diffuse(edges, np.array([[100, 80], [60, 60]]))
    assert (found >= 0).all()
    assert (found[:, 2:] <= [[100, 80], [60, 60]]).all()
    with pytest.raises(ValueError, match="2 of 3 photos are the target"):
        diffuse(edges, np.full((3, 2), 50))


def test_each_photo_that_is_left_out_has_its_reason():
    groups = [["a", "b", "c"], ["d", "e"], ["f"]]
    assert _reasons(groups, {"a": 1, "b": 1}, 6, 3) == {
        "c": "its matches do not align with those of another photo",
        "d": "its group has 2 photos, and the landmark's largest has 3",
        "e": "its group has 2 photos, and the landmark's largest has 3",
        "f": "it could be verified with no other photo",
    }
    dropped = _reasons(groups, {"a": 1, "b": 1, "c": 1}, 6, 4)
    assert set(dropped) == set("abcdef")
    assert set(dropped.values()) == {"no group of its landmark has 4 photos: the largest of 6 has 3"}
    assert _reasons([], {}, 0, 3) == {}


# --- folders -----------------------------------------------------------------------------------------------------


def test_photos_are_of_the_landmark_whose_folder_they_lie_in():
    assert by_landmark(["b/2.jpg", "a/x/1.jpg", "b/1.jpg", "0.jpg"], Path("photos")) == {
        ".": ["0.jpg"],
        "a/x": ["a/x/1.jpg"],
        "b": ["b/2.jpg", "b/1.jpg"],
    }
    with pytest.raises(ValueError, match="photos holds no folders"):
        by_landmark(["1.jpg"], Path("photos"))


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is damaged"), ("[]", "is damaged"), ('{"version": 9, "photos": "x"}', "has version 9 and this code")],
)
def test_a_cleaning_that_cannot_be_read_is_named(content, message, tmp_path):
    (tmp_path / "cleaning.json").write_text(content)
    with pytest.raises(FolderError, match=message):
        cleaned_photos(tmp_path)


@pytest.mark.parametrize(
    ("kept", "message"), [('"a/1.jpg"\n"a/2', "is cut off in line 2"), ('"a/1.jpg"\n', "has 1 photo")]
)
def test_a_list_of_photos_that_was_cut_is_named(kept, message, tmp_path):
    report = {"version": 1, "photos": "photos", "landmarks": [{"kept": 2}, {"kept": 0}]}
    (tmp_path / "cleaning.json").write_text(json.dumps(report))
    (tmp_path / "kept.txt").write_text(kept)
    with pytest.raises(FolderError, match=rf"kept\.txt {message}"):
        cleaned_photos(tmp_path)


# --- the whole step ----------------------------------------------------------------------------------------------


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
        judge = landmark_cleaning._judge

        def stop(name, *rest):
            if name == "town hall":
                raise KeyboardInterrupt
            return judge(name, *rest)

        patch.setattr(landmark_cleaning, "_judge", stop)
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
    assert landmark_photos(cleaned) == (photos.resolve(), sorted(truth))
    tuples = read_tuples(make_tuples(cleaned, tmp_path / "tuples.npz", validation=0, negatives=1))
    assert tuples.images == sorted(truth)
    assert tuples.cluster.tolist() == [0] * 4 + [1] * 4


def test_a_damaged_note_is_made_anew_and_a_damaged_database_is_named(landmarks, cleaned):
    work = cleaned / "landmarks" / "nothing"
    (work / "landmark.json").write_text("[]")
    clean(landmarks[0], cleaned)
    assert json.loads((work / "landmark.json").read_text())["name"] == "nothing"
    (work / "damaged.db").write_bytes((work / "database.db").read_bytes()[:999])
    with pytest.raises(ValueError, match=r"damaged\.db is no database of COLMAP, or damaged: remove it"):
        Database(work / "damaged.db")


def test_a_changed_option_finds_pairs_again_but_not_features(landmarks, cleaned):
    with pytest.raises(FolderError, match="was begun with --features 8192 --size 1024"):
        clean(landmarks[0], cleaned, features=100)
    with pytest.raises(ValueError, match=r"none of the 13 photos .* is kept; the first: church"):
        clean(landmarks[0], cleaned, min_photos=9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_inliers": 9}, "--min-inliers is at least 15"),
        ({"min_photos": 1}, "--min-photos is at least 2"),
        ({"neighbours": -1}, "--neighbours is at least 0"),
        ({"seed": -1}, "--seed -1: it lies in 0"),
        ({"seed": 2**31}, "--seed 2147483648: it lies in 0"),
    ],
)
def test_options_out_of_range_are_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        clean(tmp_path, tmp_path / "out", **options)


def test_what_is_in_the_way_is_not_touched(landmarks, tmp_path):
    photos, _ = landmarks
    with pytest.raises(ValueError, match="would be taken for photos"):
        clean(photos, photos / "out")
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FolderError, match="holds something else"):
        clean(photos, tmp_path)
