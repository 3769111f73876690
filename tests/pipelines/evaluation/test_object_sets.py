"""Holidays, UKBench, sketches and custom datasets."""

import json

import numpy as np
import pytest

from pipelines.evaluation.datasets import load_ground_truth
from pipelines.evaluation.errors import GroundTruthError
from pipelines.evaluation.scores import score
from tests.helpers.ground_truths import make, named, own_truth, perfect_ranks


def test_holidays_drops_the_query_from_its_ranking(tmp_path):
    names = ("100000.jpg", "100001.jpg", "100002.jpg", "100100.jpg", "100101.jpg", "100200.jpg", "readme.jpg")
    truth = load_ground_truth("holidays", make(tmp_path, *names))
    assert named(truth, "positives") == {"100000.jpg": ["100001.jpg", "100002.jpg"], "100100.jpg": ["100101.jpg"]}
    assert truth.partial == "partial: 6 of 1,491 photos, 2 of 500 queries"
    ranks = np.array([[0, 3], [1, 0], [2, 4], [3, 1], [4, 2], [5, 5]])
    figures = score(truth, ranks)
    assert [row["all"]["AP"] for row in figures["per_query"]] == [1.0, pytest.approx(0.25)]
    assert figures["mean"]["all"]["mAP"] == pytest.approx(0.625)


def test_ukbench_scores_whole_objects(shared):
    truth = load_ground_truth("ukbench", shared / "data" / "eval" / "ukbench_mini")
    assert truth.partial == "partial: 56 of 10,200 photos, 56 of 10,200 queries"
    assert named(truth, "positives")["jpg/ukbench00005.jpg"] == [f"jpg/ukbench0000{n}.jpg" for n in range(4, 8)]
    assert score(truth, perfect_ranks(truth, "all"))["mean"] == {"all": {"N-S": 4.0}}
    assert score(truth, perfect_ranks(truth, "all")[::-1])["mean"] == {"all": {"N-S": 0.0}}


def test_ukbench_leaves_out_objects_that_are_not_whole(tmp_path):
    truth = load_ground_truth("ukbench", make(tmp_path, *(f"ukbench{n:05}.jpg" for n in (0, 1, 2, 3, 4, 5, 9))))
    assert truth.queries == [f"ukbench0000{n}.jpg" for n in range(4)]
    assert len(truth.database) == 7


def test_ukbench_by_folders(tmp_path):
    names = [f"{thing}/{n}.jpg" for thing in ("cup", "shoe") for n in range(4)]
    truth = load_ground_truth("ukbench", make(tmp_path, *names))
    assert truth.partial is None
    assert named(truth, "positives")["shoe/2.jpg"] == names[4:]


def test_sketches_find_all_photos_of_their_classes(shared):
    folder = shared / "data" / "eval" / "flickr15k_mini"
    truth = load_ground_truth("flickr15k", folder)
    assert (len(truth.database), len(truth.queries)) == (1779, 10)
    towers = sorted(path.relative_to(folder).as_posix() for path in (folder / "photos" / "eiffel_tower").iterdir())
    assert named(truth, "positives")["sketches/8.png"] == towers
    assert score(truth, perfect_ranks(truth, "all"))["mean"]["all"]["mAP"] == 1.0


@pytest.mark.parametrize("classes", [5, "tower"])
def test_classes_of_a_sketch_that_are_no_list_are_named(tmp_path, classes):
    folder = make(tmp_path, "photos/tower/1.jpg", "sketches/1.png")
    (folder / "gnd.json").write_text(json.dumps({"queries": {"1": classes}}))
    with pytest.raises(GroundTruthError, match=r"gnd\.json: the classes of 1 are .*, not a list of names"):
        load_ground_truth("flickr15k", folder)


def test_own_form_with_paths_names_and_folders(shots):
    entry = {"photo": "a", "box": [1, 2, 30, 40], "positives": ["1.jpg", "shots/2.jpg"], "junk": ["other/"]}
    truth = own_truth(shots, entry)
    assert named(truth, "positives") == {"query/a.png": ["shots/1.jpg", "shots/2.jpg"]}
    assert named(truth, "junk") == {"query/a.png": ["other/0.jpg"]}
    assert len(truth.database) == 8
    assert truth.box(0, (20, 50)) == (1, 2, 20, 40)
    assert (truth.name, truth.protocol, truth.partial) == ("mine", "map", None)


def test_own_form_with_hard_answers_has_three_settings(shots):
    truth = own_truth(shots, {"photo": "a", "positives": ["1"], "hard": ["2", "3"]}, database=["shots/"])
    figures = score(truth, np.array([[2], [1], [0], [3], [4], [5]]))
    assert list(figures["mean"]) == ["easy", "medium", "hard"]
    assert figures["mean"]["easy"]["mAP"] == 1.0
    assert figures["mean"]["hard"]["mAP"] == pytest.approx((1 + 1 + 1 / 2 + 2 / 3) / 4)


def test_own_query_in_the_database_does_not_find_itself(shots):
    truth = own_truth(shots, {"photo": "shots/0.jpg", "positives": ["shots/0.jpg", "1"]}, database=["shots/"])
    assert score(truth, np.arange(6)[:, None])["mean"]["all"]["mAP"] == 1.0


def test_own_form_with_absent_photos_is_partial(shots):
    truth = own_truth(
        shots,
        {"photo": "a", "positives": ["1.jpg", "gone.jpg"]},
        {"photo": "lost.jpg", "positives": ["1.jpg"]},
        {"photo": "2.jpg", "positives": ["gone.jpg"]},
        database=["shots/", "gone.jpg"],
    )
    assert truth.queries == ["query/a.png"]
    assert truth.partial == "partial: 6 of 7 photos, 1 of 3 queries"


@pytest.mark.parametrize(("content", "message"), [
    ("{", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ("[]", "must contain an object"),
    ('{"queries": []}', "at least one query"),
    ('{"queries": [{"photo": "a"}]}', "query 1 must be an object with 'photo' and 'positives'"),
    ('{"queries": [{"photo": "a", "positives": ["1.jpg"], "jnuk": []}]}', "'jnuk' is not one of photo, box, positives"),
    ('{"queries": [{"photo": "a", "positives": "1.jpg"}]}', "must be a list of names"),
    ('{"queries": [{"photo": "a", "positives": ["0.jpg"]}]}', "'0.jpg' may be other/0.jpg or shots/0.jpg"),
    ('{"queries": [{"photo": "a", "positives": ["1.jpg"], "box": [1, 2]}]}', "four numbers"),
    ('{"queries": [{"photo": "a", "positives": ["1.jpg"], "box": [5, 2, 1, 9]}]}', "is empty"),
    ('{"database": ["shots/"], "queries": [{"photo": "a", "positives": ["other/"]}]}', "is not in the database"),
    ('{"database": [], "queries": [{"photo": "a", "positives": ["1.jpg"]}]}', "no photo of the database is in"),
    ('{"queries": [{"photo": "a", "positives": ["gone.jpg"]}]}', "no query of mine"),
])  # fmt: skip
def test_a_damaged_own_form_says_where(shots, content, message):
    path = shots.parent / "mine.json"
    path.write_text(content)
    with pytest.raises(GroundTruthError, match=message):
        load_ground_truth(str(path), shots)
