"""The step `evaluate` on a small synthetic collection, against loops, and on the real ones if they exist."""

import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from pipelines.descriptors.extract import extract
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.options import EvaluateOptions
from pipelines.evaluation.result_folders import setting_of
from pipelines.photos.reader import read_photo
from tests.helpers.owned_files import replaceable
from tests.helpers.small_network import draw_photo, save_network

BOX = (4.0, 2.0, 44.0, 34.0)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("network") / "small.keras", channels=16)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five scenes with six views each, queries with and without a box, and 12 photos of something else."""
    folder = tmp_path_factory.mktemp("collection")
    for scene in range(5):
        for view in range(6):
            draw_photo(folder / "photos" / "shots" / f"scene{scene}_{view}.png", scene, view)
        draw_photo(folder / "photos" / "asked" / f"query{scene}.png", scene, 99)
    for number in range(12):
        draw_photo(folder / "others" / f"other{number}.png", 100 + number, 0)
    return folder / "photos"


def write_truth(folder, *, missing=()):
    queries = [
        {
            "photo": f"query{scene}.png",
            "positives": [f"scene{scene}_{view}.png" for view in range(3)] + list(missing),
            "hard": [f"scene{scene}_{view}.png" for view in (3, 4)],
            "junk": [f"scene{scene}_5.png"],
        }
        | ({"box": BOX} if scene % 2 else {})
        for scene in range(5)
    ]
    path = folder / "mine.json"
    path.write_text(json.dumps({"database": ["shots/"], "queries": queries}))
    return path


def naive_ap(order, positives, junk):
    """Area under the precision-recall curve by the trapezoidal rule, photo by photo."""
    old_recall, old_precision, area, hits, seen = 0.0, 1.0, 0.0, 0, 0
    for name in order:
        if name in junk and name not in positives:
            continue
        hits += name in positives
        seen += 1
        recall, precision = hits / len(positives), hits / seen
        area += (recall - old_recall) * (precision + old_precision) / 2
        old_recall, old_precision = recall, precision
    return area


def naive_medium(network, photos, extra=()):
    """AP of each query in the setting medium, from descriptors made one by one."""
    model = keras.saving.load_model(network)
    paths = [*sorted((photos / "shots").iterdir()), *extra]
    rows = np.concatenate([model(read_photo(path, size=40)[None]).numpy() for path in paths])
    names = [path.name for path in paths]
    found = []
    for scene in range(5):
        crop = BOX if scene % 2 else None
        query = model(read_photo(photos / "asked" / f"query{scene}.png", size=40, crop=crop)[None]).numpy()[0]
        order = [names[row] for row in np.argsort(-(rows @ query), kind="stable")]
        found.append(naive_ap(order, {f"scene{scene}_{view}.png" for view in range(5)}, {f"scene{scene}_5.png"}))
    return found


def test_figures_are_those_of_a_loop_over_photos(network, photos, tmp_path, capsys):
    results = evaluate(
        str(network), dataset=str(write_truth(tmp_path)), photos=photos, output=tmp_path / "out", size=40
    )
    expected = naive_medium(network, photos)
    assert 0.2 < np.mean(expected) < 0.999
    assert [one["medium"]["AP"] for one in results["per_query"]] == pytest.approx(expected, abs=1e-9)
    assert results["mean"]["medium"]["mAP"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert set(results["mean"]) == {"easy", "medium", "hard"}
    assert (results["partial"], results["photos"], results["queries"]) == (None, 30, 5)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    assert not replaceable(tmp_path / "out")
    printed = capsys.readouterr().out
    assert f"{100 * np.mean(expected):.2f}" in printed
    assert "5 queries in 30 photos" in printed


def test_a_second_run_describes_nothing(network, photos, tmp_path, monkeypatch):
    options = {"dataset": str(write_truth(tmp_path)), "photos": photos, "output": tmp_path / "out", "size": 40}
    first = evaluate(str(network), **options)
    monkeypatch.setattr("pipelines.descriptors.extraction.describe_photos", None)
    monkeypatch.setattr("pipelines.evaluation.collection.describe_photos", None)
    assert evaluate(str(network), **options)["per_query"] == first["per_query"]
    changed = evaluate(str(network), **options, rerank="dba:3,alphaqe:4,superglobal:10")
    assert changed["rerank"] == ["dba:3:3", "alphaqe:4:3", "superglobal:10:auto:0.15"]
    assert changed["per_query"] != first["per_query"]
    assert changed["mean_by_descriptors"] == first["mean"]
    assert "mean_by_descriptors" not in first
    assert "medium, descriptors alone" in (tmp_path / "out" / "page.html").read_text()
    with pytest.raises(ValueError, match="--replace"):
        evaluate(str(network), **options | {"size": 30})


def test_distractors_come_as_photos_or_as_descriptors(network, photos, tmp_path):
    others = photos.parent / "others"
    options = {"dataset": str(write_truth(tmp_path)), "photos": photos, "size": 40}
    found = evaluate(str(network), **options, output=tmp_path / "out", distractors=others)
    expected = naive_medium(network, photos, sorted(others.iterdir()))
    assert found["mean"]["medium"]["mAP"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert (found["distractors"], found["depth"]) == (12, 42)
    assert "with 12 distractors" in (tmp_path / "out" / "page.html").read_text()
    extract(str(network), others, tmp_path / "rows", size=40, shard=5)
    again = evaluate(str(network), **options, output=tmp_path / "out2", distractors=tmp_path / "rows")
    assert again["per_query"] == found["per_query"]
    extract(str(network), others, tmp_path / "smaller", size=20)
    with pytest.raises(ValueError, match="made with size 20, and the database's is 40"):
        evaluate(str(network), **options, output=tmp_path / "out", distractors=tmp_path / "smaller")


def test_a_partial_collection_says_so_in_every_output(network, photos, tmp_path, capsys):
    truth = write_truth(tmp_path, missing=["gone.png"])
    truth.write_text(truth.read_text().replace('["shots/"]', '["shots/", "gone.png"]'))
    results = evaluate(str(network), dataset=str(truth), photos=photos, output=tmp_path / "out", size=40)
    text = "partial: 30 of 31 photos, 5 of 5 queries"
    assert results["partial"] == text
    assert capsys.readouterr().out.count(text) == 2
    assert text in (tmp_path / "out" / "page.html").read_text()
    assert json.loads((tmp_path / "out" / "results.json").read_text())["partial"] == text


def test_a_photo_that_cannot_be_read_is_never_found(network, photos, tmp_path):
    copy = shutil.copytree(photos, tmp_path / "photos")
    (copy / "shots" / "scene0_0.png").write_bytes(b"no photo")
    options = {"dataset": str(write_truth(tmp_path)), "photos": copy, "output": tmp_path / "out", "size": 40}
    results = evaluate(str(network), **options)
    assert list(results["left_out"]) == ["shots/scene0_0.png"]
    assert results["per_query"][0]["easy"]["AP"] <= 2 / 3
    assert "1 photos could not be read" in (tmp_path / "out" / "page.html").read_text()
    for query in ("query0.png", "query1.png"):
        (copy / "asked" / query).write_bytes(b"no photo")
        with pytest.raises(ValueError, match=rf"{query}.*cannot be"):
            evaluate(str(network), **options, replace=True)


def test_the_page_marks_rankings_and_loads_nothing(network, photos, tmp_path):
    evaluate(str(network), dataset=str(write_truth(tmp_path)), photos=photos, output=tmp_path / "out", size=40)
    text = (tmp_path / "out" / "page.html").read_text()
    assert text.count('<figure class="query">') == 5
    marks = re.findall(r'<figure class="(\w+)">.*?aria-label="([^"]+)"', text)
    scene = ""
    for mark, name in marks:
        if mark == "query":
            scene = name.removeprefix("query").removesuffix(".png")
        else:
            same, view = name.removeprefix("scene").removesuffix(".png").split("_")
            assert mark == ("wrong" if same != scene else "junk" if view == "5" else "right")
    assert {mark for mark, _ in marks} == {"query", "right", "wrong", "junk"}
    assert len(marks) == 5 * 11
    assert not re.search(r"https?:|src=|<script|<link", text)
    assert text.count("data:image/jpeg;base64,") == len({name for _, name in marks})


@pytest.mark.parametrize(("options", "message"), [
    ({"rerank": "alphqe"}, "Did you mean 'alphaqe'"),
    ({"dataset": "roxford"}, "Did you mean 'roxford5k'"),
    ({"scales": "0"}, "--scales must be factors above 0 and up to 4, .* got 0"),
    ({"photos": "nowhere"}, "nowhere"),
])  # fmt: skip
def test_wrong_options_are_refused_before_photos_are_described(network, photos, tmp_path, options, message):
    given = {"dataset": str(write_truth(tmp_path)), "photos": photos, "output": tmp_path / "out"} | options
    given["photos"] = tmp_path / given["photos"]
    with pytest.raises(ValueError, match=message):
        evaluate(str(network), **given)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def alexnet(shared, tmp_path_factory):
    from pipelines.networks.build import build as build_model

    weights = shared / "data" / "weights" / "alexnet_imagenet_torchvision_features.npz"
    return build_model("alexnet_gem", tmp_path_factory.mktemp("alexnet") / "alexnet.keras", weights=str(weights))


def test_ukbench_of_real_photos(shared, alexnet, tmp_path):
    photos = shared / "data" / "eval" / "ukbench_mini"
    results = evaluate(str(alexnet), dataset="ukbench", photos=photos, output=tmp_path / "out", size=224)
    assert results["queries"] == 56
    assert 3.5 < results["mean"]["all"]["N-S"] <= 4
    assert "N-S" in (tmp_path / "out" / "page.html").read_text()


def test_places_by_their_names(network, tmp_path):
    """Scenes stand 100 m apart, their photos within 25 m; one query stands where nothing was photographed."""
    for scene in range(5):
        for view in range(3):
            draw_photo(
                tmp_path / "places" / "database" / f"@{100 * scene + view}@7@@@@@@@@@@@{view}@{scene}@.png", scene, view
            )
        draw_photo(tmp_path / "places" / "queries" / f"@{100 * scene + 9}@0@@@@@@@@@@@q@{scene}@.png", scene, 9)
    draw_photo(tmp_path / "places" / "queries" / "@9000@0@@@@@@@@@@@@q@.png", 99, 9)
    results = evaluate(str(network), dataset="places", photos=tmp_path / "places", output=tmp_path / "out", size=56)
    model = keras.saving.load_model(network)
    paths = {folder: sorted((tmp_path / "places" / folder).iterdir()) for folder in ("database", "queries")}
    rows, asked = (np.concatenate([model(read_photo(path)[None]).numpy() for path in some]) for some in paths.values())
    hits = []
    for path, query in zip(paths["queries"], asked, strict=True):
        order = np.argsort(-(rows @ query), kind="stable")
        same = [paths["database"][row].name.split("@")[14] == path.name.split("@")[14] for row in order]
        hits.append(same.index(True) if any(same) else np.inf)
    assert results["mean"]["all"] == {f"recall@{n}": np.mean(np.array(hits) < n) for n in (1, 5, 10, 20)}
    assert results["mean"]["all"]["recall@20"] == pytest.approx(5 / 6)
    assert "recall@N" in (tmp_path / "out" / "page.html").read_text()


def test_results_of_every_setting_are_kept(network, photos, tmp_path, capsys):
    options = {"dataset": str(write_truth(tmp_path)), "photos": photos, "output": tmp_path / "out", "size": 40}
    plain = evaluate(str(network), **options)
    evaluate(str(network), **options)
    assert not list((tmp_path / "out").glob("setting-*"))
    page = (tmp_path / "out" / "page.html").read_text()
    changed = evaluate(str(network), **options, rerank="alphaqe:4")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == changed
    (kept,) = (tmp_path / "out").glob("setting-*")
    assert f"kept in {kept}" in capsys.readouterr().out
    assert json.loads((kept / "results.json").read_text())["per_query"] == plain["per_query"]
    assert (kept / "page.html").read_text() == page
    evaluate(str(network), **options)
    assert len(list((tmp_path / "out").glob("setting-*/results.json"))) == 2


def test_distractors_at_an_address_are_named_as_they_are(network, photos, tmp_path):
    made = {"dataset": str(write_truth(tmp_path)), "photos": photos, "output": tmp_path / "out"}
    options = EvaluateOptions(str(network), **made, distractors=Path("memory://bucket/more"))
    assert setting_of(options)["distractors"] == "memory://bucket/more"
    assert setting_of(options)["photos"] == str(photos.resolve())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mean": 1}'])
def test_results_that_name_no_setting_are_kept(network, photos, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text(content)
    evaluate(str(network), dataset=str(write_truth(tmp_path)), photos=photos, output=tmp_path / "out", size=40)
    (kept,) = (tmp_path / "out").glob("setting-*")
    assert (kept / "results.json").read_text() == content


def test_queries_are_searched_for_whole_on_demand(network, photos, tmp_path):
    truth = json.loads(write_truth(tmp_path).read_text())
    for query in truth["queries"]:
        query["box"] = [1, 1, 9, 9]
    (tmp_path / "boxed.json").write_text(json.dumps(truth))
    for query in truth["queries"]:
        del query["box"]
    (tmp_path / "plain.json").write_text(json.dumps(truth))
    options = {"photos": photos, "size": 40}
    boxed, plain, whole = (
        evaluate(str(network), dataset=str(tmp_path / name), output=tmp_path / "out", **options, **more)
        for name, more in (("boxed.json", {}), ("plain.json", {}), ("boxed.json", {"whole_queries": True}))
    )
    assert whole["setting"]["whole_queries"]
    assert whole["per_query"] == plain["per_query"]
    assert whole["per_query"] != boxed["per_query"]


def test_boxes_refer_to_photos_of_the_side_that_is_given(network, photos, tmp_path):
    truth = json.loads(write_truth(tmp_path).read_text())
    sides = {}
    for query in truth["queries"]:
        (path,) = photos.rglob(query["photo"])
        with Image.open(path) as photo:
            sides[query["photo"]] = max(photo.size)
        query["box"] = [2, 2, 30, 30]
    (tmp_path / "small.json").write_text(json.dumps(truth))
    (side,) = set(sides.values())
    for query in truth["queries"]:
        query["box"] = [6, 6, 90, 90]
    (tmp_path / "large.json").write_text(json.dumps(truth))
    options = {"photos": photos, "size": 40}
    small = evaluate(str(network), dataset=str(tmp_path / "small.json"), output=tmp_path / "a", **options)
    large = evaluate(
        str(network), dataset=str(tmp_path / "large.json"), output=tmp_path / "b", box_side=3 * side, **options
    )
    assert large["per_query"] == small["per_query"]
