"""Ranking by visual words: pasted pictures found in a small collection, cut out by their boxes and verified."""

import json

import numpy as np
import pytest
from PIL import Image

from pipelines.evaluation.evaluate import evaluate
from pipelines.photos.reader import read_photo
from pipelines.sfm.colmap import Database
from tests.helpers.small_landmarks import paste

pytest.importorskip("pycolmap")

LANDMARKS, VIEWS = 3, 4
ALL = LANDMARKS * VIEWS


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Views of three landmarks, a grey and a broken photo; queries: a view with a box, one without, a known photo."""
    folder = tmp_path_factory.mktemp("collection") / "photos"
    for landmark in range(LANDMARKS):
        for view in range(VIEWS):
            paste(folder / "shots" / f"{landmark}_{view}.jpg", landmark, view)
    Image.new("RGB", (80, 60), (90, 90, 90)).save(folder / "shots" / "grey.jpg")
    (folder / "shots" / "broken.jpg").write_bytes((folder / "shots" / "0_0.jpg").read_bytes()[:3000])
    queries = [
        {"photo": "q0.jpg", "box": paste(folder / "asked" / "q0.jpg", 0, 9)},
        {"photo": "q1.jpg"},
        {"photo": "2_0.jpg"},
    ]
    paste(folder / "asked" / "q1.jpg", 1, 9)
    for landmark, query in enumerate(queries):
        query["positives"] = [f"{landmark}_{view}.jpg" for view in range(VIEWS)]
    (folder.parent / "mine.json").write_text(json.dumps({"database": ["shots/"], "queries": queries}))
    return folder


@pytest.fixture(scope="module")
def scored(photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("output")
    return output, {
        verify: evaluate(
            bow=True, verify=verify, dataset=str(photos.parent / "mine.json"), photos=photos, output=output, size=240
        )
        for verify in (0, ALL)
    }


def test_what_is_verified_stands_first(scored):
    output, results = scored
    assert results[ALL]["mean"]["all"]["mAP"] == 1.0
    assert 0.5 < results[0]["mean"]["all"]["mAP"] <= 1  # COLMAP learns its words in threads, not twice the same
    assert results[ALL]["depth"] == LANDMARKS * VIEWS  # photos that share no word stand behind, those left out do not
    assert results[ALL]["bytes_per_photo"] > 1000
    assert {name.split("/")[1] for name in results[ALL]["left_out"]} == {"grey.jpg", "broken.jpg"}
    assert json.loads((output / "results.json").read_text()) == results[ALL]
    page = (output / "page.html").read_text()
    assert f"the first {ALL} verified by geometry" in page
    assert page.count('<figure class="right">') == LANDMARKS * VIEWS - 1
    assert (
        page.count('<figure class="junk">') == 1
    )  # a query that is in the database finds itself, which does not count


def test_a_query_is_cut_out_by_its_box(photos, scored):
    output, _ = scored
    (work,) = output.glob("words-*")
    (cut_out,) = (work / "images" / ".queries").iterdir()
    box = json.loads((photos.parent / "mine.json").read_text())["queries"][0]["box"]
    np.testing.assert_array_equal(
        np.asarray(Image.open(cut_out)), read_photo(photos / "asked" / "q0.jpg", size=240, crop=box)
    )


def test_a_second_run_looks_for_nothing_again(photos, scored, monkeypatch):
    output, results = scored
    (work,) = output.glob("words-*")
    made = {path: path.stat().st_mtime_ns for path in (*work.glob("*.bin"), *work.rglob("*.png"))}
    pairs = Database(work / "database.db").inliers()
    monkeypatch.setattr("pipelines.evaluation.bag_of_words.build_index", None)
    again = evaluate(
        bow=True, verify=ALL, dataset=str(photos.parent / "mine.json"), photos=photos, output=output, size=240
    )
    assert again["per_query"] == results[ALL]["per_query"]
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert Database(work / "database.db").inliers() == pairs


@pytest.mark.parametrize("name", ["seconds.json", "photos.json", "index-*.bin"])
def test_what_is_damaged_is_named(photos, scored, name):
    output, _ = scored
    (path,) = output.glob(f"words-*/{name}")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{path.stem}\{path.suffix} is damaged .*: remove"):
        evaluate(bow=True, verify=ALL, dataset=str(photos.parent / "mine.json"), photos=photos, output=output, size=240)
    path.write_bytes(whole)


def asked(photos, query):
    """A ground truth of the same database with one other query."""
    truth = json.loads((photos.parent / "mine.json").read_text())
    path = photos.parent / f"{query}.json"
    path.write_text(json.dumps(truth | {"queries": [{"photo": query, "positives": ["0_0.jpg"]}]}))
    return str(path)


def test_a_query_without_features_finds_nothing_and_a_broken_one_is_named(photos, scored):
    output, _ = scored
    options = {"bow": True, "photos": photos, "output": output, "size": 240}
    results = evaluate(dataset=asked(photos, "grey.jpg"), **options)
    assert results["depth"] == LANDMARKS * VIEWS
    with pytest.raises(ValueError, match=r"broken\.jpg cannot be read: truncated"):
        evaluate(dataset=asked(photos, "broken.jpg"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give a MODEL, or --bow"),
        ({"bow": True, "model": "vgg16_gem"}, "--bow does not take a MODEL"),
        ({"bow": True, "rerank": "dba"}, "--bow takes --size, --verify"),
        ({"bow": True, "antialias": False}, "--bow takes --size, --verify"),
        ({"bow": True, "verify": -1}, "--verify must be at least 0, got -1"),
        ({"bow": True, "size": 0}, "--size must be at least 1, got 0"),
    ],
)
def test_words_and_networks_do_not_mix(options, message, photos, tmp_path):
    with pytest.raises(ValueError, match=message):
        evaluate(**options, dataset=str(photos.parent / "mine.json"), photos=photos, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_photos_without_features_make_no_words(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (80, 60), (90, 90, 90)).save(tmp_path / "photos" / f"{name}.jpg")
    (tmp_path / "mine.json").write_text(json.dumps({"queries": [{"photo": "a.jpg", "positives": ["b.jpg"]}]}))
    with pytest.raises(ValueError, match="too few features for visual words"):
        evaluate(bow=True, dataset=str(tmp_path / "mine.json"), photos=tmp_path / "photos", output=tmp_path / "out")
