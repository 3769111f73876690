import numpy as np
import pytest
from PIL import Image

from bench.transfer import Collection, Describing, average_precisions, bootstrap, folder_of_objects, rows
from pipelines.evaluation.ground_truth import GroundTruth


def test_bootstrap_of_equal_differences_is_a_point():
    assert bootstrap(np.full(5, 0.25), resamples=20) == (0.25, 0.25, 0.25)


def test_bootstrap_interval_is_that_of_the_normal_distribution():
    differences = np.random.default_rng(1).normal(0.1, 0.5, 400)
    error = 1.96 * differences.std() / np.sqrt(400)
    interval = bootstrap(differences, resamples=4000)
    assert interval.mean == pytest.approx(differences.mean())
    assert interval.low == pytest.approx(differences.mean() - error, abs=0.005)
    assert interval.high == pytest.approx(differences.mean() + error, abs=0.005)


def test_bootstrap_draws_whole_objects():
    """Ten copies of four queries tell no more than the four do."""
    four = np.array([0.0, 0.1, 0.2, 0.5])
    copies, objects = np.repeat(four, 10), np.repeat(["a", "b", "c", "d"], 10)
    assert bootstrap(copies, objects, 500) == pytest.approx(bootstrap(four, None, 500))
    assert bootstrap(copies, None, 500).high < bootstrap(copies, objects, 500).high


@pytest.fixture
def photos(tmp_path):
    for name in ("a/1", "a/2", "b/1", "b/2", "c/1", "d/1", "d/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_each_photo_of_an_object_is_a_query_without_its_own_photo(photos):
    found = folder_of_objects(f"toys={photos}", ["a,b"])
    assert found.name == "toys"
    assert found.objects == ["a", "a", "a", "a", "d", "d"], "a and b are one object, and c has one photo"
    answers = {
        query: [found.truth.database[row] for row in rows]
        for query, rows in zip(found.truth.queries, found.truth.positives, strict=True)
    }
    assert answers["b/1.png"] == ["a/1.png", "a/2.png", "b/2.png"]
    assert answers["d/2.png"] == ["d/1.png"]


def test_a_network_of_an_object_answers_its_queries_only(photos, monkeypatch):
    def described(network, collection, how):
        return {"all": np.full(len(collection.objects), float(network == "without-d.keras"))}

    monkeypatch.setattr("bench.transfer._average_precisions", described)
    found = average_precisions(
        "without-{object}.keras", folder_of_objects(str(photos)), Describing(None, photos, 8, "1")
    )
    assert found["all"].tolist() == [0, 0, 0, 0, 1, 1]


def test_networks_are_compared_with_the_best_of_the_others():
    queries = ["1", "2", "3", "4"]
    truth = GroundTruth("toys", "map", queries, queries, [np.array([0])] * 4)
    before = {"plain.keras": {"all": np.full(4, 0.5)}, "whitened.keras": {"all": np.full(4, 0.6)}}
    after = {"run/trained.keras": {"all": np.array([0.9, 0.7, 0.6, np.nan])}}
    table = rows(Collection("toys", None, truth, ["a", "a", "b", "b"]), before, after, 100, each=True)
    assert [row["network"] for row in table] == [
        "plain.keras",
        "whitened.keras (compared with)",
        *["run/trained.keras"] * 3,
    ]
    assert [row["difference"] for row in table] == ["-10.0", "", "+13.3", "+20.0", "+0.0"]
    assert [row["queries"] for row in table] == [4, 4, 3, 2, 1]


def test_objects_count_alike_however_many_queries_they_have():
    queries = ["1", "2", "3", "4"]
    truth = GroundTruth("toys", "map", queries, queries, [np.array([0])] * 4)
    before = {
        "plain.keras": {"all": np.array([0.5, 0.5, 0.5, 0.2])},
        "whitened.keras": {"all": np.array([0.4, 0.4, 0.4, 0.4])},
    }
    after = {"trained.keras": {"all": np.array([0.4, 0.4, 0.4, 0.8])}}
    table = rows(Collection("toys", None, truth, ["a", "a", "a", "b"]), before, after, 100)
    assert [row["mAP of objects"] for row in table] == ["35.0", "40.0", "60.0"]
    assert [row["difference"] for row in table] == ["", "-2.5", "+7.5"]
    assert [row["their difference"] for row in table] == ["-5.0", "", "+20.0"], "from the best of objects' means"
    assert table[2]["their 95 %"] == "+0.0 to +40.0"
