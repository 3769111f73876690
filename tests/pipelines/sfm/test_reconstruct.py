"""Structure from motion: candidate pairs, groups, what COLMAP sees, resuming, and one small real reconstruction."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipelines.files.components import connected
from pipelines.photos.reader import read_photo
from pipelines.sfm.candidate_pairs import all_pairs, bridged_pairs, nearest_pairs, vocabulary_pairs
from pipelines.sfm.clusters import merge_models, same_objects
from pipelines.sfm.colmap import Database, colmap_name, ordered, photo_name
from pipelines.sfm.descriptors import describe
from pipelines.sfm.mapping import Model
from pipelines.sfm.matching import Pairing, match_in_rounds
from pipelines.sfm.page import page
from pipelines.sfm.photos import prepare
from pipelines.sfm.plan_view import INK, PAPER, Scene, plan_view, read_scene
from pipelines.sfm.reconstruct import reconstruct
from pipelines.sfm.report import make_report
from tests.helpers.small_network import draw_photo, save_network

pycolmap = pytest.importorskip("pycolmap")

SCENES = {"fountain_p11": 6, "et": 5}


# --- candidate pairs ---------------------------------------------------------------------------------------------


def naive_nearest_pairs(names, rows, k):
    near = {}
    for i in range(len(names)):
        others = sorted((j for j in range(len(names)) if j != i), key=lambda j: (-float(rows[i] @ rows[j]), j))
        near[i] = others[: 2 * k]
    chosen = set()
    for i, others in near.items():
        mutual = [j for j in others if i in near[j]]
        for j in [*mutual, *(j for j in others if j not in mutual)][:k]:
            chosen.add(ordered(names[i], names[j]))
    return sorted(chosen)


@pytest.mark.parametrize("k", [1, 3, 40])
def test_nearest_pairs_equal_the_plain_loop(k):
    rows = np.random.default_rng(k).normal(size=(30, 8)).astype("float32")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{number:02}.jpg" for number in range(30)]
    assert nearest_pairs(names, rows, k) == naive_nearest_pairs(names, rows, k)


def test_photos_without_descriptor_take_no_part():
    rows = np.eye(4, dtype="float32")
    rows[2] = np.nan
    assert nearest_pairs(list("abcd"), rows, 9) == [("a", "b"), ("a", "d"), ("b", "d")]
    assert nearest_pairs(["a"], np.ones((1, 2), "float32"), 3) == []


def test_neighbours_recommend_their_neighbours():
    inliers = {("a", "b"): 90, ("b", "c"): 50, ("c", "d"): 40, ("a", "x"): 0}
    assert bridged_pairs(inliers, 5, 15, set("abcdx")) == [("a", "c"), ("b", "d")]
    assert bridged_pairs(inliers, 5, 45, set("abcdx")) == [("a", "c")]
    assert bridged_pairs(inliers, 5, 15, {"d"}) == [("b", "d")]


def test_a_pair_tried_in_vain_speaks_against_its_friends():
    friends = {("a", "b"): 100, ("b", "c"): 100}
    assert bridged_pairs(friends, 5, 15, set("abc")) == [("a", "c")]
    foes = {("a", "d"): 100, ("c", "d"): 0, ("a", "e"): 100, ("c", "e"): 0}
    assert ("a", "c") not in bridged_pairs(friends | foes, 5, 15, set("abcde"))


def test_each_photo_takes_the_best_recommendations():
    hub = {ordered("hub", name): count for name, count in zip("abcd", (100, 80, 60, 40), strict=True)}
    assert bridged_pairs(hub, 1, 15, {"a"}) == [("a", "b"), ("a", "c"), ("a", "d")]
    assert bridged_pairs(hub, 1, 15, set("ab")) == [("a", "b"), ("a", "c"), ("a", "d")]


def test_all_pairs():
    assert all_pairs(["b", "a", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]


# --- groups and clusters -----------------------------------------------------------------------------------------


def test_connected_parts_equal_a_flood():
    rng = np.random.default_rng(0)
    edges = [tuple(edge) for edge in rng.integers(0, 60, (45, 2)).tolist()]
    parts = connected(range(60), edges)
    reach = np.eye(60, dtype=bool)
    for one, other in edges:
        reach[one, other] = reach[other, one] = True
    for _ in range(60):
        reach = reach @ reach
    assert sorted(node for part in parts for node in part) == list(range(60))
    assert all(set(part) == set(np.flatnonzero(reach[part[0]])) for part in parts)
    assert [len(part) for part in parts] == sorted(map(len, parts), reverse=True)


def test_models_that_share_a_photo_are_one_cluster():
    assert merge_models([["a", "b"], ["c"], ["b", "d"], ["e"], ["d", "c"]]) == [[0, 1, 2, 4], [3]]


def test_clusters_of_one_castle_are_no_negatives():
    inliers = {("a", "b"): 80, ("b", "x"): 20, ("x", "c"): 20, ("c", "d"): 90, ("e", "f"): 70, ("d", "e"): 14}
    assert same_objects([["a", "b"], ["c", "d"], ["e", "f"]], inliers) == [(0, 1)]
    inliers["d", "e"] = 15
    assert same_objects([["a", "b"], ["c", "d"], ["e", "f"]], inliers) == [(0, 1), (0, 2), (1, 2)]


# --- what COLMAP sees --------------------------------------------------------------------------------------------


def test_names_with_spaces_survive_a_list_of_pairs():
    for name in ("a.jpg", "ein Haus/50% #1.jpg", "tab\tå.png"):
        assert photo_name(colmap_name(name)) == name
        assert not any(letter.isspace() or letter == "#" for letter in colmap_name(name))
    assert colmap_name("plain/å.jpg") == "plain/å.jpg"


@pytest.fixture
def odd_photos(tmp_path):
    """The same picture in many forms, some of which COLMAP would misread."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize((160, 120), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    turned[ExifTags.Base.Model] = "Lens"
    turned.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 28
    picture.save(folder / "plain.jpg")
    picture.save(folder / "plain.png")
    picture.save(folder / "turned.jpg", exif=turned)
    picture.save(folder / "moving.gif")
    picture.save(folder / "a web page.webp", lossless=True)
    picture.convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    (folder / "half.jpg").write_bytes((folder / "plain.jpg").read_bytes()[:1500])
    return folder


def test_colmap_sees_the_pixels_that_the_photo_reader_sees(odd_photos, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    names = sorted(path.name for path in odd_photos.iterdir())
    left_out = prepare(odd_photos, names, work)
    assert list(left_out) == ["half.jpg"]
    assert "truncated" in left_out["half.jpg"]
    for name in set(names) - set(left_out):
        seen = pycolmap.Bitmap.read(work / "images" / colmap_name(name), True).to_array()
        difference = seen.astype(float) - read_photo(odd_photos / name)
        assert np.abs(difference).mean() < 8, name
    links = {path.name for path in (work / "images").iterdir() if path.is_symlink()}
    assert links == {"plain.jpg", "plain.png"}
    with Image.open(work / "images" / "turned.jpg") as copy:
        exif = copy.getexif()
        assert ExifTags.Base.Orientation not in exif
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] == 28


def test_photos_are_prepared_once_and_must_not_change(odd_photos, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    prepare(odd_photos, ["plain.jpg", "turned.jpg", "half.jpg"], work)
    copy = work / "images" / "turned.jpg"
    made = copy.stat().st_mtime_ns
    os.utime(odd_photos / "turned.jpg")
    assert list(prepare(odd_photos, ["plain.jpg", "turned.jpg", "half.jpg"], work)) == ["half.jpg"]
    assert copy.stat().st_mtime_ns >= made
    (odd_photos / "half.jpg").write_bytes((odd_photos / "plain.jpg").read_bytes())
    assert prepare(odd_photos, ["half.jpg"], work) == {}
    (odd_photos / "plain.jpg").write_bytes((odd_photos / "turned.jpg").read_bytes())
    with pytest.raises(ValueError, match="has changed since"):
        prepare(odd_photos, ["plain.jpg"], work)


def test_photos_that_were_moved_are_linked_anew(odd_photos, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    prepare(odd_photos, ["plain.jpg", "half.jpg"], work)
    moved = odd_photos.rename(tmp_path / "elsewhere")
    assert not (work / "images" / "plain.jpg").exists()
    assert list(prepare(moved, ["plain.jpg", "half.jpg"], work)) == ["half.jpg"]
    assert (work / "images" / "plain.jpg").resolve() == moved / "plain.jpg"


def test_a_database_left_without_tables_is_gone_on_with(tmp_path):
    (tmp_path / "database.db").touch()
    database = Database(tmp_path / "database.db")
    assert database.features() == {}
    assert database.inliers() == {}


# --- rounds of pairs ---------------------------------------------------------------------------------------------


class Answers:
    """A database whose matches are known beforehand."""

    def __init__(self, path, true):
        self.path, self.true, self.tried = path, true, {}
        self.asked = []

    def inliers(self):
        return dict(self.tried)

    def match(self, pairs, seed):
        fresh = [pair for pair in pairs if pair not in self.tried]
        self.asked += fresh
        self.tried.update({pair: self.true.get(pair, 0) for pair in fresh})
        return len(fresh)


@pytest.fixture
def ring(tmp_path, monkeypatch):
    """12 photos around an object: each sees what the three on either side see. Visual words propose nothing."""
    monkeypatch.setattr("pipelines.sfm.matching.vocabulary_pairs", lambda *_: [])
    names = [f"{number:02}" for number in range(12)]
    angles = np.arange(12) / 12 * 2 * np.pi
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")
    apart = {
        (one, other): min(abs(int(one) - int(other)), 12 - abs(int(one) - int(other)))
        for one, other in all_pairs(names)
    }
    true = {pair: 40 for pair, steps in apart.items() if steps <= 3}
    return names, rows, Answers(tmp_path / "database.db", true)


def pairing(**options):
    return Pairing(
        **{"by": "retrieval", "neighbours": 2, "min_inliers": 15, "vocabulary": None, "described_as": [], "seed": 0}
        | options
    )


def test_rounds_find_what_retrieval_misses(ring):
    names, rows, answers = ring
    rounds = match_in_rounds(answers, names, pairing(), lambda: rows)
    assert rounds[0] == {"by": "descriptors", "pairs": 12, "verified": 12}
    assert sum(entry["verified"] for entry in rounds) == len(answers.true) == 36
    assert len(answers.tried) < 66
    asked = list(answers.asked)
    match_in_rounds(answers, names, pairing(), lambda: pytest.fail("descriptors are not needed again"))
    assert answers.asked == asked


def test_a_killed_matching_goes_on_with_the_same_pairs(ring, monkeypatch):
    names, rows, answers = ring
    whole = Answers(answers.path.with_name("other") / "database.db", answers.true)
    whole.path.parent.mkdir()
    match_in_rounds(whole, names, pairing(), lambda: rows)
    real = Answers.match

    def dies(self, pairs, seed):
        real(self, pairs[: len(pairs) // 2], seed)
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(Answers, "match", dies)
            with pytest.raises(KeyboardInterrupt):
                match_in_rounds(answers, names, pairing(), lambda: rows)
    match_in_rounds(answers, names, pairing(), lambda: rows)
    assert answers.tried == whole.tried
    assert len(answers.asked) == len(set(answers.asked))


def test_an_added_photo_costs_its_own_pairs(ring):
    names, rows, answers = ring
    match_in_rounds(answers, names[:-1], pairing(), lambda: rows[:-1])
    before = set(answers.tried)
    match_in_rounds(answers, names, pairing(), lambda: rows)
    new = set(answers.tried) - before
    assert new
    assert all(names[-1] in pair for pair in new)


def test_exhaustive_pairs_are_all(ring):
    names, _, answers = ring
    match_in_rounds(answers, names, pairing(by="exhaustive"), lambda: pytest.fail("no descriptors are needed"))
    assert set(answers.tried) == set(combinations(names, 2))


# --- report and page ---------------------------------------------------------------------------------------------


def test_every_photo_left_out_has_its_reason(tmp_path):
    names = [*"abcdefgh"]
    inliers = {
        ("a", "b"): 50,
        ("b", "c"): 50,
        ("c", "d"): 30,
        ("e", "f"): 30,
        ("a", "g"): 14,
        ("g", "h"): 0,
        ("a", "z"): 90,
    }
    models = [Model(tmp_path / "models/x/0", ["a", "b", "c"], 100, 300, 0.5)]
    report = make_report(tmp_path, names, {"h": "damaged"}, inliers, models, {"min_inliers": 15, "min_photos": 3})
    assert report["left_out"] == {
        "h": "damaged",
        "d": "COLMAP could not place it in a model of its group",
        "e": "its group has 2 photos, and 3 are needed",
        "f": "its group has 2 photos, and 3 are needed",
        "g": "none of its 2 pairs was verified",
    }
    assert report["clusters"][0]["left_out"] == {"d": report["left_out"]["d"]}
    assert report["pairs"] == {"all": 28, "tried": 6, "verified": 4}


def test_a_model_from_above_is_seen_from_above():
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(-2, 2, 4000), rng.uniform(0, 9, 4000), rng.uniform(-1, 1, 4000)], axis=1)
    colours = np.where(points[:, :1] < 0, [[20, 120, 20]], [[20, 20, 160]]).astype(np.uint8)
    centres = np.array([[-2.0, 1, -4], [2.0, 1, -4]])
    ahead, upward = np.tile([[0.0, 0, 1]], (2, 1)), np.tile([[0.0, 1, 0]], (2, 1))
    pixels = np.asarray(plan_view(Scene(points, colours, centres, ahead, upward), 300, 300)).astype(int)
    assert pixels.shape == (300, 300, 3)

    def middle(colour):
        return np.argwhere(np.abs(pixels - colour).sum(axis=2) < 60).mean(axis=0)

    left, right, cameras = middle([20, 120, 20]), middle([20, 20, 160]), middle(INK)
    between = (left + right) / 2
    # Right-handed, as a map is: from the cameras to the points with x on the left is x to the right on paper.
    assert abs(np.linalg.det([right - left, cameras - between])) > 1000
    assert abs((right - left) @ (cameras - between)) < 0.2 * np.linalg.norm(right - left) * np.linalg.norm(
        cameras - between
    )
    assert (np.abs(pixels - PAPER).sum(axis=2) < 10).mean() > 0.3
    # Height plays no part: squashing it changes nothing.
    flat = plan_view(Scene(points * (1, 0.1, 1), colours, centres, ahead, upward), 300, 300)
    assert np.abs(np.asarray(flat).astype(int) - pixels).mean() < 12


def test_the_page_escapes_names_and_shows_every_cluster(tmp_path):
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=4, num_points3D=50)
    model = pycolmap.synthesize_dataset(options)
    folder = tmp_path / "models" / "x" / "0"
    folder.mkdir(parents=True)
    model.write(folder)
    assert len(read_scene(folder).centres) == 4
    name = "<b>&.jpg"
    found = [Model(folder, [name, "b"], 50, 200, 0.1)]
    report = make_report(
        tmp_path,
        [name, "b", "c"],
        {"c": "<damaged>"},
        {("b", name): 99},
        found,
        {"min_inliers": 15, "min_photos": 2, "pairs": "retrieval", "neighbours": 8},
    )
    report |= {"photos": "photos", "rounds": [], "seconds": {"pairs": 1.0}}
    text = page(report, tmp_path)
    assert "Cluster 0" in text
    assert "data:image/png;base64," in text
    assert "<b>" not in text
    assert "&lt;damaged&gt;" in text


# --- the whole step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "all"}, "--pairs all: known are retrieval"),
        ({"mapper": "magic"}, "--mapper magic"),
        ({"neighbours": 0}, "--neighbours is at least 1"),
        ({"descriptor_size": 0}, "--descriptor-size is at least 1"),
        ({"min_inliers": 10}, "--min-inliers is at least 15"),
        ({"vocabulary": Path("nowhere.bin")}, "there is no vocabulary tree at nowhere.bin"),
    ],
)
def test_options_out_of_range_are_named(options, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        reconstruct(tmp_path, tmp_path / "work", **options)
    assert not (tmp_path / "work").exists()


def test_a_folder_of_something_else_is_not_used(tmp_path, odd_photos):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds something else"):
        reconstruct(odd_photos, tmp_path / "work")


def test_work_among_the_photos_is_refused(odd_photos):
    with pytest.raises(ValueError, match="would be taken for photos"):
        reconstruct(odd_photos, odd_photos / "work")
    assert not (odd_photos / "work").exists()


def test_photos_are_described_once(tmp_path):
    network = str(save_network(tmp_path / "small.keras"))
    for view in range(5):
        draw_photo(tmp_path / "photos" / f"{view}.png", 0, view)
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG")
    names = ["3.png", "broken.png", "0.png"]
    rows = describe(tmp_path / "photos", names, tmp_path / "work", network, 40)
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]
    (folder,) = (tmp_path / "work").iterdir()
    made = {path: path.stat().st_mtime_ns for path in folder.glob("0*")}
    more = describe(tmp_path / "photos", ["0.png", "1.png", "2.png", "3.png"], tmp_path / "work", network, 40)
    np.testing.assert_array_equal(more[[3, 0]], rows[[0, 2]])
    np.testing.assert_allclose(np.linalg.norm(more, axis=1), 1, rtol=1e-5)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert describe(tmp_path / "photos", names, tmp_path / "work", network, 30).shape == rows.shape
    assert len(list((tmp_path / "work").iterdir())) == 2


@pytest.fixture(scope="module")
def mixed(shared, tmp_path_factory):
    """Six photos of a fountain and five of a doll thrown together, small, and one that is broken."""
    folder = tmp_path_factory.mktemp("mixed")
    number = 0
    for scene, count in SCENES.items():
        for path in sorted((shared / "data" / "photos" / scene).glob("*.jpg"))[:count]:
            Image.open(path).resize((480, 320)).save(folder / f"photo {number:02} {scene}.jpg", quality=95)
            number += 1
    (folder / "broken.jpg").write_bytes((folder / "photo 00 fountain_p11.jpg").read_bytes()[:9000])
    return folder


RUN = """
import sys
from pathlib import Path
from pipelines.sfm import reconstruct
from pipelines.sfm_descriptors import describe
reconstruct(Path(sys.argv[1]), Path(sys.argv[2]), pairs="exhaustive", features=1500)
"""


def scenes(report):
    return sorted(sorted(name.split()[-1] for name in cluster["photos"]) for cluster in report["clusters"])


def count(work, table):
    path = work / "database.db"
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def kill_when(photos, work, reached):
    """Starts a run and ends it by SIGKILL as soon as it got so far. Returns whether it was still running."""
    with subprocess.Popen([sys.executable, "-c", RUN, str(photos), str(work)], stdout=subprocess.DEVNULL) as run:
        while run.poll() is None and not reached():
            time.sleep(0.01)
        alive = run.poll() is None
        run.send_signal(signal.SIGKILL)
    return alive


def test_killed_three_times_it_reconstructs_two_objects(mixed, tmp_path):
    work = tmp_path / "work"
    assert kill_when(mixed, work, lambda: count(work, "descriptors") >= 1)
    found = count(work, "descriptors")
    assert kill_when(mixed, work, lambda: count(work, "two_view_geometries") >= 3)
    assert count(work, "descriptors") == 11 >= found
    tried = count(work, "two_view_geometries")
    assert kill_when(mixed, work, lambda: any((work / "models").glob("*.partial")))
    assert count(work, "two_view_geometries") == 55 >= tried
    reconstruct(mixed, work, pairs="exhaustive", features=1500)
    report = json.loads((work / "report.json").read_text())
    assert scenes(report) == [["et.jpg"] * 5, ["fountain_p11.jpg"] * 6]
    assert report["same_object"] == []
    assert report["left_out"].keys() == {"broken.jpg"}
    assert not list((work / "models").glob("*.partial"))
    models = [model for cluster in report["clusters"] for model in cluster["models"]]
    for model in models:
        opened = pycolmap.Reconstruction(work / model["folder"])
        assert opened.num_reg_images() == len(model["photos"])
        assert opened.num_points3D() == model["points"] > 100
        assert opened.compute_mean_reprojection_error() < 1
    assert (work / "index.html").read_text().count("data:image/jpeg") == 11
    _run_again(mixed, work, models)
    _other_ways(mixed, work, tmp_path)


def _other_ways(photos, work, tmp_path):
    """Visual words prefer photos of the same object; the global mapper comes to the same clusters."""
    words = vocabulary_pairs(work / "database.db", [path.name for path in photos.glob("*.jpg")], 2, None)
    own = [pair for pair in words if pair[0].split()[-1] == pair[1].split()[-1]]
    assert len(own) > 0.7 * len(words) > 7
    (tmp_path / "other").mkdir()
    for name in ("database.db", "options.json", "photos.json"):
        (tmp_path / "other" / name).write_bytes((work / name).read_bytes())
    (tmp_path / "other" / "images").symlink_to(work / "images")
    reconstruct(photos, tmp_path / "other", pairs="vocabulary-tree", mapper="global", features=1500)
    report = json.loads((tmp_path / "other" / "report.json").read_text())
    assert scenes(report) == [["et.jpg"] * 5, ["fountain_p11.jpg"] * 6]
    assert report["options"]["mapper"] == "global"


def _run_again(photos, work, models):
    """A second run touches neither pairs nor models; a photo that is added costs its own pairs only."""
    made = {path: path.stat().st_mtime_ns for model in models for path in (work / model["folder"]).iterdir()}
    reconstruct(photos, work, pairs="exhaustive", features=1500)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    pairs = Database(work / "database.db").inliers()
    added = photos / "one more.jpg"
    Image.open(photos / "photo 10 et.jpg").transpose(Image.Transpose.ROTATE_90).save(added, quality=90)
    try:
        reconstruct(photos, work, pairs="exhaustive", features=1500)
    finally:
        added.unlink()
    more = Database(work / "database.db").inliers()
    assert pairs.items() <= more.items()
    assert {pair for pair in more if pair not in pairs} == {
        ordered(name, added.name) for pair in pairs for name in pair
    }
    report = json.loads((work / "report.json").read_text())
    folders = {model["folder"] for cluster in report["clusters"] for model in cluster["models"]}
    assert len(folders & {model["folder"] for model in models}) == 1
    with pytest.raises(ValueError, match="was begun with --features 1500"):
        reconstruct(photos, work, pairs="exhaustive")
