"""Searches with photos, files, boxes and feedback equal numpy, and what cannot be read is answered with its reason."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from export.http.messages import Request
from export.index_contract.contract import Hits
from export.search_page.feedback import NEGATIVE_WEIGHT, combined
from export.search_page.routes import SearchPage
from tests.helpers.page_source import NATURAL, NEW, ROWS
from tests.helpers.small_index import random_rows


def ask(page, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = page.answer(Request("POST", "/search.json", body=body))
    return answer.status, json.loads(answer.body)


def search(page, **document):
    status, found = ask(page, document)
    assert status == 200
    return found


def hits(found):
    return [hit["name"] for hit in found["hits"]]


def ranked(query, without=(), among=NATURAL):
    names = [name for name in ROWS if name not in without and name in among]
    return sorted(names, key=lambda name: -float(ROWS[name] @ query))


def file_of(source, name):
    return {"file": base64.b64encode((source.folder / name).read_bytes()).decode()}


def test_a_photo_of_the_collection_finds_the_others(page):
    found = search(page, queries=[{"photo": "top.jpg"}])
    assert hits(found) == ranked(ROWS["top.jpg"], ["top.jpg"])
    np.testing.assert_allclose(
        [hit["score"] for hit in found["hits"]], [ROWS[name] @ ROWS["top.jpg"] for name in hits(found)], atol=1e-6
    )
    assert (found["compared"], found["queries"], found["missing"]) == (6, [{"width": 80, "height": 60}], [])
    assert found["hits"][0].keys() == {"name", "searchable", "time", "latitude", "longitude", "columns", "score"}
    assert found["seconds"] >= 0


def test_a_file_finds_its_own_photo_too(page, source):
    found = search(page, queries=[file_of(source, "a/b/x.jpg")], k=2)
    assert hits(found) == ranked(ROWS["a/b/x.jpg"])[:2]
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)


def test_boxes_are_described_and_upright_sizes_answered(page, source):
    turned = source.folder.parent / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(turned, exif=exif)
    found = search(
        page,
        queries=[
            {"photo": "top.jpg", "box": [1, 2, 30, 40]},
            {"file": base64.b64encode(turned.read_bytes()).decode(), "box": None},
        ],
    )
    assert source.described == [(1, 2, 30, 40), None]
    assert found["queries"] == [{"width": 80, "height": 60}, {"width": 20, "height": 30}]
    assert "top.jpg" not in hits(found)


def test_several_queries_are_their_mean_and_unlike_photos_are_moved_away_from(page):
    mean = (ROWS["top.jpg"] + ROWS["b/y.jpg"]) / 2
    found = search(page, queries=[{"photo": "top.jpg"}], like=["b/y.jpg"])
    assert hits(found) == ranked(mean, ["top.jpg"])
    query = mean - NEGATIVE_WEIGHT * ROWS["a/IMG_9.jpg"]
    found = search(page, like=["top.jpg", "b/y.jpg"], unlike=["a/IMG_9.jpg"], skip=["b/y.jpg"])
    assert hits(found) == ranked(query, ["a/IMG_9.jpg", "b/y.jpg"])
    scores = [ROWS[name] @ query / np.linalg.norm(query) for name in hits(found)]
    np.testing.assert_allclose([hit["score"] for hit in found["hits"]], scores, atol=1e-5)


def test_combined_descriptors_equal_their_definition():
    rows = 3 * random_rows(5)
    np.testing.assert_array_equal(combined(rows[:1], rows[:0]), rows[0])
    expected = (rows[0] + rows[1]) / 6 - 0.5 * (rows[2] + rows[3] + rows[4]) / 9
    np.testing.assert_allclose(combined(rows[:2], rows[2:], 0.5), expected / np.linalg.norm(expected), atol=1e-6)
    assert np.isfinite(combined(np.zeros((2, 4)), np.zeros((1, 4)))).all()


def test_filters_restrict_what_is_compared(page):
    found = search(page, queries=[{"photo": "top.jpg"}], filter={"folder": "a"})
    assert hits(found) == ranked(ROWS["top.jpg"], among=["a/IMG_9.jpg", "a/IMG_10.jpg", "a/b/x.jpg"])
    assert found["compared"] == 3
    found = search(page, like=["top.jpg"], filter={"columns": {"camera": ["Pixel"]}, "after": "2021"})
    assert (hits(found), found["compared"]) == (["a/b/x.jpg"], 1)
    found = search(page, like=["top.jpg"], filter={"text": "new"})  # a photo that is not searchable
    assert (hits(found), found["compared"]) == ([], 0)


def test_more_hits_than_photos_are_all_of_them(page):
    disliked = NATURAL[:3]
    found = search(page, queries=[{"photo": "b/y.jpg"}], unlike=disliked, k=10_000)
    query = ROWS["b/y.jpg"] - NEGATIVE_WEIGHT * np.mean([ROWS[name] for name in disliked], axis=0)
    assert hits(found) == ranked(query, ["b/y.jpg", *disliked])


def test_what_cannot_be_read_is_answered_with_its_reason(page, source):
    (source.folder / "b/y.jpg").unlink()
    found = search(
        page,
        queries=[
            {"file": base64.b64encode(b"a text").decode()},
            {"file": ""},
            {"photo": "none.jpg"},
            {"photo": "top.jpg", "box": [10, 10, 5, 5]},
            {"photo": "b/y.jpg"},
            {"photo": "b/y.jpg", "box": [0, 0, 9, 9]},
            {"photo": "../table.csv"},
        ],
        like=["gone.jpg"],
        unlike=["lost.jpg"],
    )
    reasons = [query.get("reason") for query in found["queries"]]
    assert [bool(reason) for reason in reasons] == [True, True, True, True, False, True, True]
    assert reasons[2] == reasons[5] == "its file is not among the photos any more"
    assert reasons[3] == "its box is empty or extends beyond the photo"
    assert found["queries"][4] == {}  # it is in the index
    assert hits(found) == ranked(ROWS["b/y.jpg"], ["b/y.jpg", "top.jpg"])
    assert found["missing"] == ["gone.jpg", "lost.jpg"]
    nothing = search(page, queries=[{"photo": "none.jpg"}])
    assert (nothing["hits"], nothing["compared"]) == ([], 6)


def test_a_file_that_is_too_large_is_not_described(source):
    page = SearchPage(source, upload_bytes=2**19)
    found = search(page, queries=[{"file": base64.b64encode(bytes(2**19 + 1)).decode()}, {"photo": "top.jpg"}])
    assert found["queries"] == [{"reason": "its file is larger than 0.5 MB"}, {"width": 80, "height": 60}]
    page.close()


def test_a_photo_that_is_not_searchable_yet_is_described(page, source):
    assert len(search(page, queries=[{"photo": NEW}])["hits"]) == 6
    assert source.described == [None]


def test_photos_of_the_index_that_left_the_catalogue_are_not_hits(page, source):
    source.searched.add(["other.jpg"], ROWS["top.jpg"][None])
    assert "other.jpg" not in hits(search(page, queries=[{"photo": "top.jpg"}]))


def test_searches_that_are_not_possible_now(page, source):
    described, source.describe = source.describe, lambda *_: np.ones(5, np.float32)
    status, found = ask(page, {"queries": [file_of(source, "top.jpg")]})
    assert status == 503
    assert "rows have 5 dimensions, the index has 8" in found["error"]
    source.describe = described
    source.ready = False
    status, found = ask(page, {"queries": [file_of(source, "top.jpg")]})
    assert (status, found) == (503, {"error": "The network is being loaded. Try again in a few seconds."})
    source.searched.delete(list(ROWS))
    source.ready = True
    source.photos = source.photos.with_searchable([], "2")
    found = search(page, queries=[file_of(source, "top.jpg")])
    assert (found["hits"], found["compared"]) == ([], 0)
    source.searched = None
    status, found = ask(page, {"like": ["top.jpg"]})
    assert status == 503
    assert found["error"].startswith("No photo can be searched yet. Wait")
    source.progress = replace(source.progress, state="ready", photos=0)
    assert f"Put photos into {source.folder}" in ask(page, {"like": ["top.jpg"]})[1]["error"]
    source.progress = replace(source.progress, state="ready", photos=1, searchable=0, left_out=2)
    assert "all were left out" in ask(page, {"like": ["top.jpg"]})[1]["error"]
    source.progress = replace(source.progress, state="working")
    assert "Wait until" in ask(page, {"like": ["top.jpg"]})[1]["error"]


QUERY = {"photo": "top.jpg"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "The body is not JSON"),
        (b"\xff", "The body is not JSON"),
        (b"[" * 100_000, "The body is not JSON"),
        ([], "The body must be a JSON object."),
        ({}, "queries is empty: give a photo to search with, or like."),
        (
            {"query": 1},
            "There is no field 'query'; the fields: queries, like, unlike, filter, k, skip, min_probability.",
        ),
        ({"queries": {}, "like": []}, "queries is empty"),
        ({"queries": "x"}, "queries must be a list."),
        ({"queries": [QUERY] * 51}, "queries must be at most 50, got 51."),
        ({"queries": ["x"]}, "queries[0] must be an object."),
        ({"queries": [QUERY, {}]}, "queries[1] must have either photo or file."),
        ({"queries": [{"photo": "a", "file": "b"}]}, "queries[0] must have either photo or file."),
        ({"queries": [{"photo": 1}]}, "queries[0].photo must be a string."),
        ({"queries": [{"name": "a"}]}, "queries[0] has no field 'name'; its fields: photo, file, box."),
        ({"queries": [{"file": "no base64!"}]}, "queries[0].file must be the photo's file in base64"),
        ({"queries": [{"file": "é"}]}, "queries[0].file must be the photo's file in base64"),
        ({"queries": [{**QUERY, "box": [1, 2, 3]}]}, "queries[0].box must be four numbers"),
        ({"queries": [{**QUERY, "box": [1, 2, 3, "4"]}]}, "queries[0].box must be four numbers"),
        ({"queries": [{**QUERY, "box": [1, 2, 3, True]}]}, "queries[0].box must be four numbers"),
        ({"queries": [{**QUERY, "box": [1, 2, 3, 10**400]}]}, "queries[0].box must be four numbers"),
        (b'{"queries": [{"photo": "a", "box": [1, 2, 3, NaN]}]}', "queries[0].box must be four numbers"),
        ({"like": "top.jpg"}, "like must be a list of names of photos."),
        ({"like": ["top.jpg"], "unlike": [1]}, "unlike must be a list of names of photos."),
        ({"like": ["top.jpg"], "skip": [str(n) for n in range(1_001)]}, "skip must be at most 1000 names, got 1001."),
        ({"like": ["top.jpg"], "k": 0}, "k must be a whole number from 1 to 10,000."),
        ({"like": ["top.jpg"], "k": "5"}, "k must be a whole number"),
        ({"like": ["top.jpg"], "k": True}, "k must be a whole number"),
        ({"like": ["top.jpg"], "k": None}, "k must be a whole number"),
        ({"like": ["top.jpg"], "filter": {"folder": 3}}, "filter.folder must be a string."),
        ({"like": ["top.jpg"], "filter": {"columns": {"x": []}}}, "column.x: the index has no column 'x'"),
    ],
)
def test_wrong_fields_are_named(page, document, message):
    status, found = ask(page, document)
    assert (status, found["error"][: len(message)]) == (400, message)


def test_hits_of_crops_have_the_part_that_was_found(page, source, monkeypatch):
    index = source.index()
    plain = index.search

    def search_crops(queries, k=10, **options):
        sizes, boxes = np.tile([80, 60], (6, 1)), np.tile([0, 0, 40, 30], (6, 1))
        return [Hits(one.names, one.scores, boxes[: len(one.names)], sizes) for one in plain(queries, k, **options)]

    monkeypatch.setattr(index, "search", search_crops)
    found = search(page, queries=[{"photo": "top.jpg"}])
    assert [(hit["box"], hit["size"]) for hit in found["hits"]] == [([0, 0, 40, 30], [80, 60])] * 5
