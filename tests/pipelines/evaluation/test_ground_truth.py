"""Each loader on its real files where they are, else on a small made collection in the published layout."""

import csv
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from keras_retrieval import metrics
from pipelines.evaluation.datasets import DATASETS, load_ground_truth
from pipelines.evaluation.ground_truth import GroundTruth, GroundTruthError, Photos, at_hand
from pipelines.evaluation.oxford_paris import UNREADABLE_PARIS
from pipelines.evaluation.scores import score
from pipelines.photos.positions import within


def make(folder, *names):
    """Empty files under the names of photos: a loader reads names only."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def named(ground_truth, label):
    """query -> names of the photos in a label."""
    rows = getattr(ground_truth, label)
    return {
        query: sorted(ground_truth.database[row] for row in one)
        for query, one in zip(ground_truth.queries, rows, strict=True)
    }


def ranks_of(ground_truth, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(len(ground_truth.database)) for _ in ground_truth.queries], axis=1)


def perfect_ranks(ground_truth, setting):
    positives, _ = ground_truth.settings()[setting]
    everything = np.arange(len(ground_truth.database))
    return np.stack([np.concatenate([one, np.setdiff1d(everything, one)]) for one in positives], axis=1)


# Oxford and Paris


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k", "oxford5k", "paris6k"])
def test_published_pickles_are_taken_over_whole(shared, tmp_path, name):
    path = shared / "data" / "gnd" / f"gnd_{name}.pkl"
    content = pickle.loads(path.read_bytes(), encoding="latin1")
    names = dict.fromkeys(content["imlist"] + content["qimlist"])
    truth = load_ground_truth(name, make(tmp_path / "photos", *(f"jpg/{one}.jpg" for one in names)), path)
    answerable = [
        query for query in content["gnd"] if len(query.get("ok", ())) or query.get("easy") or query.get("hard")
    ]
    assert truth.database == [f"jpg/{one}.jpg" for one in content["imlist"]]
    assert truth.queries == [
        f"jpg/{one}.jpg"
        for one, query in zip(content["qimlist"], content["gnd"], strict=True)
        if any(query is kept for kept in answerable)
    ]
    for query, expected in enumerate(answerable):
        for label, key in (("positives", "easy" if name[0] == "r" else "ok"), ("hard", "hard"), ("junk", "junk")):
            assert sorted(getattr(truth, label)[query]) == sorted(expected.get(key, []))
        assert truth.boxes[query] == tuple(expected["bbx"])
    assert (truth.partial is None) == (len(answerable) == len(content["gnd"]))


@pytest.mark.parametrize(("name", "photos", "queries", "published"), [
    ("roxford5k", 1070, 22, (4993, 70)),
    ("oxford5k", 1098, 23, (5063, 55)),
])  # fmt: skip
def test_a_partial_collection_says_so(shared, name, photos, queries, published):
    data = shared / "data"
    truth = load_ground_truth(name, data / "eval" / "oxford_mini", data / "gnd" / f"gnd_{name}.pkl")
    assert (len(truth.database), len(truth.queries), truth.published) == (photos, queries, published)
    expected = f"partial: {photos:,} of {published[0]:,} photos, {queries} of {published[1]} queries"
    assert truth.partial == expected
    assert all(len(both) for both in truth.settings()["medium" if name[0] == "r" else "all"][0])
    content = pickle.loads((data / "gnd" / f"gnd_{name}.pkl").read_bytes())
    for query, positives in named(truth, "positives").items():
        answers = content["gnd"][content["qimlist"].index(query[len("jpg/") : -len(".jpg")])]
        wanted = {f"jpg/{content['imlist'][row]}.jpg" for row in answers.get("easy", answers.get("ok"))}
        assert set(positives) == wanted & set(truth.database)


def test_boxes_are_scaled_to_the_photos_at_hand(shared):
    data = shared / "data"
    truth = load_ground_truth("roxford5k", data / "eval" / "oxford_mini", data / "gnd" / "gnd_roxford5k.pkl")
    query = truth.queries.index("jpg/all_souls_000013.jpg")
    assert truth.boxes[query] == (136.5, 34.1, 648.5, 955.7)
    assert truth.box(query, (384, 512)) == pytest.approx((68.25, 17.05, 324.25, 477.85))
    assert truth.box(query, (768, 1024)) == truth.boxes[query]


def test_texts_of_paris_say_what_its_pickle_says(shared, tmp_path):
    gnd = shared / "data" / "gnd"
    with zipfile.ZipFile(gnd / "paris_120310.zip") as archive:
        archive.extractall(tmp_path / "texts")
    names = pickle.loads((gnd / "gnd_paris6k.pkl").read_bytes(), encoding="latin1")["imlist"]
    folder = make(tmp_path / "photos", *(f"{name}.jpg" for name in (*names, *UNREADABLE_PARIS)))
    from_texts = load_ground_truth("paris6k", folder, tmp_path / "texts")
    from_pickle = load_ground_truth("paris6k", folder, gnd / "gnd_paris6k.pkl")
    assert set(from_texts.database) == set(from_pickle.database)
    assert from_texts.partial is None
    assert sorted(from_texts.queries) == sorted(from_pickle.queries)
    for label in ("positives", "junk"):
        assert named(from_texts, label) == named(from_pickle, label)
    assert dict(zip(from_texts.queries, from_texts.boxes, strict=True)) == dict(
        zip(from_pickle.queries, from_pickle.boxes, strict=True)
    )


@pytest.fixture
def oxford_texts(tmp_path):
    folder = tmp_path / "gt"
    folder.mkdir()
    for answer, content in {
        "query": "oxc1_all_souls_000013 136.5 34.1 648.5 955.7\n",
        "good": "all_souls_000013\nall_souls_000026\n",
        "ok": "oxford_002985\n",
        "junk": "all_souls_000152\nabsent_000001\n",
    }.items():
        (folder / f"all_souls_1_{answer}.txt").write_text(content)
    return folder


def test_texts_of_oxford_have_a_prefix_before_the_query(tmp_path, oxford_texts):
    names = ("all_souls_000013", "all_souls_000026", "oxford_002985", "all_souls_000152", "ashmolean_000001")
    truth = load_ground_truth("oxford5k", make(tmp_path / "p", *(f"{one}.jpg" for one in names)), oxford_texts)
    query = "all_souls_000013.jpg"
    assert named(truth, "positives") == {query: ["all_souls_000013.jpg", "all_souls_000026.jpg", "oxford_002985.jpg"]}
    assert named(truth, "junk") == {query: ["all_souls_000152.jpg"]}
    assert truth.boxes == [(136.5, 34.1, 648.5, 955.7)]
    assert truth.partial == "partial: 5 of 5,063 photos, 1 of 1 queries"


@pytest.mark.parametrize(("answer", "content", "message"), [
    ("query", "oxc1_all_souls_000013 1 2", "four sides of a box"),
    ("junk", None, "junk.txt is missing"),
])  # fmt: skip
def test_damaged_texts_are_named(tmp_path, oxford_texts, answer, content, message):
    path = oxford_texts / f"all_souls_1_{answer}.txt"
    path.write_text(content) if content else path.unlink()
    with pytest.raises(GroundTruthError, match=message):
        load_ground_truth("oxford5k", make(tmp_path / "p", "all_souls_000013.jpg"), oxford_texts)


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k", "oxford5k", "paris6k"])
def test_a_missing_file_says_where_it_is_published(tmp_path, name):
    with pytest.raises(GroundTruthError, match=rf"gnd_{name}\.pkl: it is published at http.*gnd_{name}\.pkl"):
        load_ground_truth(name, make(tmp_path, "a.jpg"))


def pickled(**changes):
    query = {"bbx": [0, 0, 10, 10], "easy": [0], "hard": [1], "junk": []}
    return {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [query | changes]}


def test_the_file_is_found_beside_the_photos(tmp_path):
    (tmp_path / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(pickled()))
    truth = load_ground_truth("roxford5k", make(tmp_path / "jpg", "a.jpg", "b.jpg", "q.jpg"))
    assert named(truth, "hard") == {"q.jpg": ["b.jpg"]}


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("hostile",)


@pytest.mark.parametrize(("content", "message"), [
    ({"imlist": []}, "it has no 'gnd'"),
    (pickled() | {"qimlist": []}, "do not fit each other"),
    (pickled(bbx=[1, 2]), "do not fit each other"),
    (pickled(bbx="abcd"), "not the ground truth of roxford5k"),
    (pickled(easy=[2]), "query q refers to a photo beyond the 2 listed"),
    (pickled(easy=[-1]), "beyond the 2 listed"),
    (pickled(easy=["x"]), "not the ground truth"),
    ([1, 2], "not the ground truth"),
    (Hostile(), "names 'posix.mkdir', which is not admitted"),
])  # fmt: skip
def test_a_damaged_pickle_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(content))
    photos = make(tmp_path / "jpg", "a.jpg", "b.jpg", "q.jpg")
    with pytest.raises(ValueError, match=message):
        load_ground_truth("roxford5k", photos, tmp_path / "gnd.pkl")
    assert not (tmp_path / "hostile").exists()


# Holidays and UKBench


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


@pytest.mark.parametrize(("dataset", "message"), [
    ("holidays", "no query of holidays"),
    ("ukbench", "no four photos of one object"),
])  # fmt: skip
def test_other_photos_are_refused(tmp_path, dataset, message):
    with pytest.raises(GroundTruthError, match=message):
        load_ground_truth(dataset, make(tmp_path, "a.jpg"))


# Places


def spot(folder, number, east, north, panorama=""):
    return f"{folder}/@{east:.2f}@{north:.2f}@54@S@35.6@139.7@{panorama}@{number}@@@@@@@.jpg"


def test_places_read_positions_from_names(tmp_path):
    database = [spot("database", n, 380_000 + 10 * n, 3_950_000) for n in range(6)]
    queries = [spot("queries", 0, 380_000, 3_950_000), spot("queries", 1, 0, 0)]
    truth = load_ground_truth("places", make(tmp_path, *database, *queries))
    answers = {query: named(truth, "positives")[query] for query in queries}
    assert answers == {queries[0]: database[:3], queries[1]: []}
    assert truth.partial is None
    worst_first = np.tile(np.arange(6)[::-1, None], (1, 2))
    figures = score(truth, worst_first)
    assert figures["mean"]["all"] == {"recall@1": 0.0, "recall@5": 0.5, "recall@10": 0.5, "recall@20": 0.5}
    first = {row["query"]: row["all"]["first hit"] for row in figures["per_query"]}
    assert first == {queries[0]: 4, queries[1]: None}


@pytest.mark.parametrize("with_name", [True, False])
def test_tokyo_counts_a_panorama_once(tmp_path, with_name):
    """12 wrong cut-outs of one panorama stand first: they count as one, so the hit is the second."""
    wrong = [spot("database", n, 10_000, 0, "wrong" if with_name else "") for n in range(12)]
    right = [spot("database", n, 0, 0, "right" if with_name else "") for n in range(12)]
    folder = make(tmp_path, *wrong, *right, spot("queries_v2", 0, 3, 4))
    order = [load_ground_truth("places", folder).database.index(name) for name in wrong + right]
    ranks = np.array(order)[:, None]
    assert score(load_ground_truth("tokyo247", folder), ranks)["per_query"][0]["all"] == {"first hit": 2}
    assert score(load_ground_truth("places", folder), ranks)["per_query"][0]["all"] == {"first hit": 13}


def write_positions(path, rows, columns=("photo", "east", "north")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_places_by_csv_on_real_photos(shared, tmp_path):
    """The toy set's names hold no position, so a made street: a photo every 20 m, a query beside each fourth."""
    rows = [(f"database/db{n}.jpg", 20 * n, 0) for n in range(1, 18)]
    rows += [(f"q{n}", 80 * n, 3) for n in range(1, 6)]
    gnd = write_positions(tmp_path / "utm.csv", rows)
    truth = load_ground_truth("places", shared / "data" / "eval" / "vpr_toy", gnd)
    assert (len(truth.database), len(truth.queries), truth.partial) == (17, 5, None)
    assert named(truth, "positives")["queries/q1.jpg"] == [f"database/db{n}.jpg" for n in (3, 4, 5)]
    assert named(truth, "positives")["queries/q5.jpg"] == []


def test_places_by_csv_can_be_partial(tmp_path):
    rows = [("database/a.jpg", 0, 0), ("database/b.jpg", 1, 0), ("queries/q.jpg", 0, 1), ("queries/r.jpg", 0, 2)]
    folder = make(tmp_path / "photos", "database/a.jpg", "queries/q.jpg")
    truth = load_ground_truth("places", folder, write_positions(tmp_path / "utm.csv", rows))
    assert truth.partial == "partial: 1 of 2 photos, 1 of 2 queries"


@pytest.mark.parametrize(("rows", "columns", "message"), [
    ([("database/a.jpg", 0)], ("photo", "east"), "no column north"),
    ([("database/a.jpg", 0, "x")], ("photo", "east", "north"), "line 2: east and north must be numbers"),
    ([("database/a.jpg", 0, "nan")], ("photo", "east", "north"), "not finite"),
    ([("database/a.jpg", 0, "1", "5")], ("photo", "east", "north"), "line 2: it has 4 cells, and the heading 3"),
    ([("database/a.jpg", 0, 0), ("a.jpg", 9, 9)], ("photo", "east", "north"), "line 3: photo 'a.jpg' is empty, or has"),
    ([("database/a.jpg", 0, 0)], ("photo", "east", "north"), "no row for the photo queries/q.jpg"),
])  # fmt: skip
def test_a_damaged_csv_names_the_row(tmp_path, rows, columns, message):
    folder = make(tmp_path / "photos", "database/a.jpg", "queries/q.jpg")
    with pytest.raises(ValueError, match=message):
        load_ground_truth("places", folder, write_positions(tmp_path / "utm.csv", rows, columns))


@pytest.mark.parametrize(("names", "message"), [
    (("database/db1.jpg", "queries/q.jpg"), "no position in the name"),
    (("database/@x@1@.jpg", "queries/@1@1@.jpg"), "no position in the name"),
    (("database/@1@1@.jpg",), "must hold one folder 'queries'"),
    (("database/@1@1@.jpg", "queries_a/@1@1@.jpg", "queries_b/@1@1@.jpg"), "it has: queries_a, queries_b"),
])  # fmt: skip
def test_places_in_another_layout_are_refused(tmp_path, names, message):
    with pytest.raises(GroundTruthError, match=message):
        load_ground_truth("places", make(tmp_path, *names))


def test_places_without_their_csv(tmp_path):
    folder = make(tmp_path, "database/a.jpg", "queries/q.jpg")
    with pytest.raises(GroundTruthError, match="photo, east, north"):
        load_ground_truth("places", folder, tmp_path / "utm.csv")


def test_the_radius_search_equals_all_distances(shared):
    """On the published positions of Pitts30k's test split."""
    with np.load(shared / "data" / "gnd" / "pitts30k_test_gt.npz") as published:
        queries, database = published["utmQ"][::5], published["utmDb"]
        radius = float(published["posDistThr"])
    distance = np.hypot(*(queries[:, None] - database).transpose(2, 0, 1))
    for found, row in zip(within(queries, database, radius), distance, strict=True):
        np.testing.assert_array_equal(found, np.flatnonzero(row <= radius))


# Sketches, and a user's own


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


def write_own(path, queries, **more):
    path.write_text(json.dumps({"queries": queries} | more))
    return path


@pytest.fixture
def shots(tmp_path):
    return make(tmp_path / "photos", *(f"shots/{n}.jpg" for n in range(6)), "query/a.png", "other/0.jpg")


def own_truth(shots, *queries, **more):
    return load_ground_truth(str(write_own(shots.parent / "mine.json", list(queries), **more)), shots)


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
    ("[]", "must hold an object"),
    ('{"queries": []}', "at least one query"),
    ('{"queries": [{"photo": "a"}]}', "query 1 must be an object with 'photo' and 'positives'"),
    ('{"queries": [{"photo": "a", "positives": ["1.jpg"], "jnuk": []}]}', "'jnuk' is not known"),
    ('{"queries": [{"photo": "a", "positives": "1.jpg"}]}', "must be a list of names"),
    ('{"queries": [{"photo": "a", "positives": ["0.jpg"]}]}', "holds '0.jpg' twice: other/0.jpg and shots/0.jpg"),
    ('{"queries": [{"photo": "a", "positives": ["1.jpg"], "box": [1, 2]}]}', "four numbers"),
    ('{"queries": [{"photo": "a", "positives": ["1.jpg"], "box": [5, 2, 1, 9]}]}', "is empty"),
    ('{"database": ["shots/"], "queries": [{"photo": "a", "positives": ["other/"]}]}', "is not in the database"),
    ('{"database": [], "queries": [{"photo": "a", "positives": ["1.jpg"]}]}', "database has no photo"),
    ('{"queries": [{"photo": "a", "positives": ["gone.jpg"]}]}', "no query of mine"),
])  # fmt: skip
def test_a_damaged_own_form_says_where(shots, content, message):
    path = shots.parent / "mine.json"
    path.write_text(content)
    with pytest.raises(GroundTruthError, match=message):
        load_ground_truth(str(path), shots)


# What all share


def test_unknown_datasets_answer_with_the_nearest(shots):
    with pytest.raises(GroundTruthError, match=r"Did you mean 'roxford5k'\? Known: roxford5k"):
        load_ground_truth("roxfrd5k", shots)
    with pytest.raises(GroundTruthError, match=r"gone\.json is missing"):
        load_ground_truth("gone.json", shots)


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_missing_folder_is_a_clear_error(tmp_path, dataset):
    with pytest.raises(ValueError, match="nowhere"):
        load_ground_truth(dataset, tmp_path / "nowhere")


def test_none_of_the_photos_is_at_hand(shots):
    truth = GroundTruth("far", "map", ["x"], ["x"], [np.array([0])])
    with pytest.raises(GroundTruthError, match=r"holds none of the 1 photos of far \(such as x\)"):
        at_hand(truth, Photos(shots))


def test_a_box_outside_of_the_photo_is_refused():
    truth = GroundTruth("one", "map", ["x"], ["x"], [np.array([0])], boxes=[(50.0, 50.0, 90.0, 90.0)])
    with pytest.raises(GroundTruthError, match="lies outside of x"):
        truth.box(0, (40, 40))


@pytest.mark.parametrize("seed", range(3))
def test_settings_are_what_the_scores_count(shared, seed):
    data = shared / "data"
    truth = load_ground_truth("roxford5k", data / "eval" / "oxford_mini", data / "gnd" / "gnd_roxford5k.pkl")
    ranks = ranks_of(truth, seed)
    figures = score(truth, ranks)
    for setting, (positives, junk) in truth.settings().items():
        expected = metrics.retrieval(ranks, positives, junk)
        assert figures["mean"][setting]["mAP"] == pytest.approx(expected.mean_ap)
        undefined = [row["query"] for row in figures["per_query"] if row[setting]["AP"] is None]
        assert undefined == [q for q, one in zip(truth.queries, positives, strict=True) if not len(one)]
    for setting in ("easy", "medium", "hard"):
        assert score(truth, perfect_ranks(truth, setting))["mean"][setting]["mAP"] == pytest.approx(1.0)


def test_figures_are_json(shared):
    data = shared / "data"
    truth = load_ground_truth("roxford5k", data / "eval" / "oxford_mini", data / "gnd" / "gnd_roxford5k.pkl")
    figures = score(truth, ranks_of(truth))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["partial"] == truth.partial
    assert set(figures["mean"]["easy"]) == {"mAP", "mP@1", "mP@5", "mP@10"}


def test_distractors_push_answers_down(shots):
    truth = own_truth(shots, {"photo": "a", "positives": ["shots/0.jpg"]}, database=["shots/"])
    assert score(truth, np.array([[99], [0]]))["mean"]["all"]["mAP"] == pytest.approx(0.25)
