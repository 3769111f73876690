"""Oxford and Paris from their published files if they exist, else from small copies of the same format."""

import os
import pickle
import zipfile

import pytest

from pipelines.evaluation.datasets import load_ground_truth
from pipelines.evaluation.errors import GroundTruthError
from pipelines.evaluation.oxford_paris import UNREADABLE_PARIS
from tests.helpers.ground_truths import make, named


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
    (pickled() | {"qimlist": []}, "do not fit together"),
    (pickled(bbx=[1, 2]), "do not fit together"),
    (pickled(bbx="abcd"), "not the ground truth of roxford5k"),
    (pickled(easy=[2]), "query q refers to a photo beyond the 2 listed"),
    (pickled(easy=[-1]), "beyond the 2 listed"),
    (pickled(easy=["x"]), "not the ground truth"),
    ([1, 2], "not the ground truth"),
    (Hostile(), "refers to 'posix.mkdir', which is not allowed"),
])  # fmt: skip
def test_a_damaged_pickle_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(content))
    photos = make(tmp_path / "jpg", "a.jpg", "b.jpg", "q.jpg")
    with pytest.raises(ValueError, match=message):
        load_ground_truth("roxford5k", photos, tmp_path / "gnd.pkl")
    assert not (tmp_path / "hostile").exists()
