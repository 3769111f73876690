"""A collection of Milvus provides `NeighbourIndex`: here with milvus-lite, with a real server in `make test-milvus`."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from export.index_contract.contract import Filter, parse_where
from export.index_contract.errors import CollectionError
from export.indexes.index import index
from export.indexes.open_index import open_index
from export.indexes.search import search
from export.milvus_index.address import parse_address
from export.milvus_index.builder import BUILDING
from export.milvus_index.entities import MAX_NAME_BYTES
from export.milvus_index.milvus_index import PROPERTY, MilvusIndex
from keras_retrieval.errors import ArgumentError
from pipelines.descriptors.extract import extract
from tests.helpers.small import draw, saved_network
from tests.helpers.small_crops import assert_best, crop_descriptors, joined, photos_with_crops
from tests.helpers.small_index import descriptors, names_of, numbers, random_rows

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")
pytest.importorskip("scann")

ODD = [
    "a b.jpg",
    "line\nbreak.jpg",
    "日本 \u2028.jpg",
    "quote\"'\\.jpg",
    "https://host/a?b=c#d",
    "",
    "x" * MAX_NAME_BYTES,
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The first part of addresses: one file for all tests, since milvus-lite opens files slowly."""
    return f"milvus:///{tmp_path_factory.mktemp('milvus')}/all.db".replace("////", "///")


def place_of(home, request):
    return f"{home}/{request.node.originalname}"


@pytest.fixture
def place(home, request):
    return place_of(home, request)


def made(tmp_path, place, rows, names=None, **options):
    index(descriptors(tmp_path / "descriptors", rows, names), place, **options)
    return open_index(place)


@pytest.mark.parametrize("count", [1, 15, 60])
def test_it_finds_what_a_folder_finds(tmp_path, home, count):
    rows, queries = random_rows(count), random_rows(5, seed=1)
    collection = made(tmp_path, f"{home}/same_{count}", rows)
    folder = open_index(index(tmp_path / "descriptors", tmp_path / "index"))
    assert len(collection) == len(folder) == count
    for k in (1, 10, 1000, 20_000):
        for ours, theirs in zip(collection.search(queries, k), folder.search(queries, k), strict=True):
            assert ours.names == theirs.names
            assert len(ours.names) == min(k, count)
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
            assert ours.scores.dtype == np.float32
    assert sorted(collection.names) == sorted(folder.names)
    order = [int(name.removesuffix(".jpg")) for name in collection.names]
    np.testing.assert_allclose(collection.vectors(), rows[order])
    kept = ("model", "size", "scales", "antialias", "bfloat16", "exif", "max_pixels", "photos", "dimensions")
    assert {key: collection.facts[key] for key in kept} == {key: folder.facts[key] for key in kept}


def test_photos_are_added_replaced_and_deleted_by_any_name(tmp_path, place):
    collection, rows = made(tmp_path, place, random_rows(9)), random_rows(7, seed=2)
    collection.add(ODD, rows)
    assert [hits.names[0] for hits in collection.search(rows, 1)] == ODD
    assert len(collection) == 16
    collection.add(ODD[:2], rows[[1, 0]])
    assert [hits.names[0] for hits in collection.search(rows[:2], 1)] == [ODD[1], ODD[0]]
    np.testing.assert_allclose(collection.vectors(ODD[:3]), rows[[1, 0, 2]])
    assert collection.delete([*ODD, "unknown", ODD[0]]) == 7
    assert sorted(collection.names) == names_of(9)
    assert collection.delete(names_of(9)) == 9
    assert [hits.names for hits in collection.search(rows[:2], 5)] == [[], []]
    assert collection.vectors().shape == (0, 8)
    assert collection.columns() == {}
    empty = collection.version
    collection.add(["a"], rows[:1])
    changed = collection.version
    collection.add(["a"], rows[1:2])
    assert len({empty, changed, collection.version}) == 3
    assert collection.state.photos == len(collection)
    assert (collection.state.loads, collection.state.problem) == (1, "")
    np.testing.assert_array_equal(collection.to_stored(rows), rows)
    assert collection.delete(["a"]) == 1
    assert collection.search(np.zeros((0, 8)), 5) == []


def test_searches_are_filtered_by_names_and_columns(tmp_path, place):
    table = tmp_path / "table.csv"
    cities = ["Paris", 'Ro"me', "x' or 1 == 1", ""]
    lines = [
        "photo,city,the 'day'",
        *(f'{row}.jpg,"{cities[row % 4]}",mon'.replace('o"m', 'o""m') for row in range(40)),
    ]
    table.write_text("\n".join(lines))
    rows = random_rows(40)
    collection = made(tmp_path, place, rows, columns=table)
    for number, city in enumerate(cities):
        (hits,) = collection.search(rows[:1], 50, where=Filter(columns={"city": [city]}))
        assert sorted(numbers([hits])[0]) == list(range(number, 40, 4))
    (hits,) = collection.search(rows[:1], 50, where=Filter(names_of(9), {"city": cities[:2], "the 'day'": ["mon"]}))
    assert sorted(numbers([hits])[0]) == [0, 1, 4, 5, 8]
    for nothing in (Filter([]), Filter(["unknown"]), Filter(columns={"city": []}), Filter(columns={"city": ["Bonn"]})):
        assert [hits.names for hits in collection.search(rows[:2], 5, where=nothing)] == [[], []]
    assert collection.columns(["3.jpg", "1.jpg", "3.jpg"]) == {"city": ["", 'Ro"me', ""], "the 'day'": ["mon"] * 3}
    assert collection.columns() == collection.columns(collection.names)
    assert collection.columns([]) == {"city": [], "the 'day'": []}
    with pytest.raises(ValueError, match=r"no photo '40\.jpg'"):
        collection.columns(["0.jpg", "40.jpg"])
    collection.add(["0.jpg"], rows[:1], {"city": ["Bonn"]})
    assert collection.columns(["0.jpg"]) == {"city": ["Bonn"], "the 'day'": ["mon"]}
    (hits,) = collection.search(rows[:1], 5, where=Filter(columns={"city": ["Bonn"], "the 'day'": ["mon"]}))
    assert hits.names == ["0.jpg"]
    with pytest.raises(ValueError, match=r"no column 'town'; its columns: city, the 'day'"):
        collection.search(rows, where=Filter(columns={"town": ["x"]}))


CONDITIONS = [
    ["year >= 2002"], ["year < 2002"], ["year = 2001.0", "year = 2004"], ["year != 2001"], ["year <= 2001"],
    ["year > 2003"], ["year empty"], ["year not empty"], ["day = 2017"], ["day <= 2017-07"], ["day > 2017"],
    ["day empty"], ["tags = red"], [r'tags all red, "x\"y"', "year >= 2001"], ["tags not all red, round"],
    ["tags != red"], ["tags empty"], ["tags in blue, round"], ["photo in 1.jpg, 7.jpg"], ["photo != 1.jpg"],
    ["city in Paris, Rome", "year not in 2000, 2003"], ["city empty"], ["year = "], ["tags all red, blue, round"],
]  # fmt: skip


def test_conditions_find_the_same_photos_as_in_a_folder(tmp_path, place):
    days = ["2017-07-18T10:30:00", "2018", "", "2017-12-31", "2016-02"]
    lists = [["red", "round"], ["red"], [], ["blue"], ["red", 'x"y']]
    lines = [
        {
            "photo": f"{row}.jpg",
            "year": 2000 + row % 5 if row % 6 else None,
            "day": days[row % 5],
            "tags": lists[row * 3 % 5],
            "city": ["Paris", "Rome", ""][row % 3],
        }
        for row in range(20)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = random_rows(20)
    collection = made(tmp_path, place, rows, columns=tmp_path / "t.jsonl")
    folder = open_index(index(tmp_path / "descriptors", tmp_path / "index", columns=tmp_path / "t.jsonl"))
    for both in (collection, folder):
        both.add(["new.jpg", "3.jpg"], rows[:2], {"year": [2004, 1999], "tags": [["red", "blue", "round"], []]})
        assert both.change_columns(["4.jpg", "gone.jpg"], {"year": [2003, 1], "city": ["Bonn", ""]}) == 1
    assert collection.columns(["4.jpg", "3.jpg"]) == folder.columns(["4.jpg", "3.jpg"])
    np.testing.assert_allclose(collection.vectors(["4.jpg"]), rows[[4]], atol=1e-6)
    for conditions in CONDITIONS:
        found, expected = (both.search(rows[:1], 30, where=parse_where(conditions))[0] for both in (collection, folder))
        assert sorted(found.names) == sorted(expected.names), conditions
    for both in (collection, folder):
        with pytest.raises(ValueError, match="> is for numbers and times"):
            both.search(rows[:1], where=parse_where(["city > a"]))
        with pytest.raises(ValueError, match="a value of 'year'"):
            both.add(["x"], rows[:1], {"year": ["x"]})


def test_columns_are_added_to_a_collection(tmp_path, place):
    (tmp_path / "t.csv").write_text("photo,city\n0.jpg,Rome\n")
    rows = random_rows(6)
    collection = made(tmp_path, place, rows, columns=tmp_path / "t.csv")
    running = open_index(place)
    collection.add_columns({"year": "number", "tags": "texts"})
    collection.change_columns(["1.jpg"], {"year": [1999], "tags": [["red", "blue"]]})
    running._read_at -= 60  # the time after which others' columns are looked for
    assert running.facts["columns"] == ["city", "year", "tags"]
    for both in (collection, running, open_index(place)):
        assert both.columns(["0.jpg", "1.jpg"]) == {
            "city": ["Rome", ""], "year": ["", "1999"], "tags": ["", '["red", "blue"]']
        }  # fmt: skip
        for conditions, names in (
            (["year empty"], ["0.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]),
            (["year < 2000"], ["1.jpg"]),
            (["tags all red"], ["1.jpg"]),
            (["tags not in red"], ["0.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]),
            (["city = Rome"], ["0.jpg"]),
        ):
            assert sorted(both.search(rows[:1], 9, where=parse_where(conditions))[0].names) == names, conditions
    with pytest.raises(ValueError, match="the index has 'year' as a number, not a text"):
        collection.add_columns({"year": "text"})
    with pytest.raises(ValueError, match="has no room for the column 'c0'"):
        collection.add_columns({f"c{number}": "text" for number in range(40)})
    assert collection.facts["columns"] == ["city", "year", "tags"]


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path, place):
    collection, rows = made(tmp_path, place, random_rows(20)), random_rows(3, seed=3)
    bad = rows.copy()
    bad[1, 2] = np.nan
    for names, given, columns, message in [
        (["a", "b", "c"], bad, None, r"1 rows are not finite, the first are \[1\]"),
        (["a", "b", "a"], rows, None, "rows 0 and 2 have the same name: 'a'"),
        (["a", "b"], rows, None, "got 2 names and 3 rows"),
        (["a", "b", "c"], rows[:, :7], None, "rows have 7 dimensions, the index has 8"),
        (["a", "b", "c"], rows, {"city": ["x"] * 3}, "no column 'city'"),
        (["a", "b", "\udce4"], rows, None, "row 2: .* not valid Unicode"),
        (["a", "é" * 40_000, "c"], rows, None, "row 1: a name has 80,000 bytes, and Milvus stores at most 65,535"),
    ]:
        with pytest.raises(ValueError, match=message):
            collection.add(names, given, columns)
    for queries, k, message in [
        (rows, 0, "k must be at least 1"),
        (rows[:, :3], 5, "queries have 3 dimensions"),
        (bad, 5, "not finite"),
        (rows[0], 5, "must be an array"),
    ]:
        with pytest.raises(ValueError, match=message):
            collection.search(queries, k)
    with pytest.raises(ValueError, match="no photo 'a'"):
        collection.vectors(["0.jpg", "a"])
    assert sorted(collection.names) == sorted(names_of(20))


def test_milvus_gives_a_query_so_many_neighbours_at_most(tmp_path, place, monkeypatch):
    collection = made(tmp_path, place, random_rows(20))
    monkeypatch.setattr("export.milvus_index.milvus_index.MAX_NEIGHBOURS", 15)
    with pytest.raises(
        ValueError, match="k must be at most 15, the neighbours that Milvus returns for a query, got 20"
    ):
        collection.search(random_rows(1), 100)
    assert len(collection.search(random_rows(1), 15)[0].names) == 15


def test_a_collection_is_replaced_on_demand_and_as_a_whole(tmp_path, place, monkeypatch):
    first = made(tmp_path / "first", place, random_rows(9))
    descriptors(tmp_path / "second", random_rows(5, seed=5))
    with pytest.raises(CollectionError, match="exists already"):
        index(tmp_path / "second", place)
    monkeypatch.setattr(
        "export.milvus_index.builder._write_facts", lambda *_, building, **__: (building or 1 / 0) and None
    )
    with pytest.raises(ZeroDivisionError):
        index(tmp_path / "second", place, replace=True)
    monkeypatch.undo()
    assert len(open_index(place)) == 9
    index(tmp_path / "second", place, replace=True, k=7)
    assert len(open_index(place)) == len(first) == 5
    assert first.facts["configuration"]["settings"]["k"] == 7
    ours = [name for name in first._client.list_collections() if name.startswith(first.address.collection)]
    assert len(ours) == 1


def test_what_abandoned_writers_left_is_dropped_after_a_day(tmp_path, place):
    made(tmp_path, place, random_rows(9))
    client, collection = parse_address(place).connect(), parse_address(place).collection
    for hours, left in ((25, "old"), (23, "new")):
        client.create_collection(f"{collection}_{left}", dimension=4)
        client.alter_collection_properties(f"{collection}_{left}", {BUILDING: str(time.time() - 3600 * hours)})
    index(tmp_path / "descriptors", place, replace=True)
    assert not client.has_collection(f"{collection}_old")
    assert client.has_collection(f"{collection}_new")


def test_what_is_no_index_is_told(place):
    with pytest.raises(CollectionError, match="there is no such collection: `keras-retrieval index"):
        open_index(place)
    client, collection = parse_address(place).connect(), parse_address(place).collection
    client.create_collection(collection, dimension=4)
    with pytest.raises(CollectionError, match="was not made by `keras-retrieval index`"):
        open_index(place)
    client.alter_collection_properties(collection, {PROPERTY: '{"version": 4}'})
    with pytest.raises(CollectionError, match="layout 4, and this version reads up to 3"):
        open_index(place)
    client.alter_collection_properties(collection, {PROPERTY: '{"version": 1}'})
    with pytest.raises(CollectionError, match="layout 1, which is no longer supported: index again with --replace"):
        open_index(place)


@pytest.mark.parametrize("options", [{"soar": 0.0}, {"rows": "int8"}, {"dim": 4}, {"threshold": 0.1}])
def test_settings_of_folders_are_refused(tmp_path, place, options):
    with pytest.raises(
        ValueError, match=f"--{next(iter(options))} is not supported for this collection; supported are --recall"
    ):
        index(descriptors(tmp_path / "descriptors", random_rows(40)), place, **options)
    with pytest.raises(CollectionError, match="no such collection"):
        open_index(place)


def test_no_server_is_told_at_once(tmp_path):
    with pytest.raises(ConnectionError, match="no Milvus server answers: check host and port"):
        open_index("milvus://127.0.0.1:9/photos")


def test_what_was_added_survives_a_kill_of_the_process(tmp_path):
    place = f"milvus://{tmp_path}/killed.db/photos"
    index(descriptors(tmp_path / "descriptors", random_rows(9)), place)
    code = f"""
import os, signal
import numpy as np
from export.indexes.open_index import open_index
opened = open_index({place!r})
opened.add(["new.jpg"], np.ones((1, 8)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_all()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert sorted(open_index(place).names) == sorted([*names_of(9), "new.jpg"])


def test_search_describes_queries_as_the_collection_was_made(tmp_path, place, capsys):
    for number in range(6):
        draw(tmp_path / "photos" / f"{number % 2}/{number}.png", 40, 56, seed=number)
    model = str(saved_network(tmp_path))
    index(extract(model, tmp_path / "photos", tmp_path / "descriptors"), place)
    index(tmp_path / "descriptors", tmp_path / "index")
    ours, theirs = (search(there, [tmp_path / "photos"], k=3) for there in (place, str(tmp_path / "index")))
    assert [(found.names, found.own) for found in ours] == [(found.names, found.own) for found in theirs]
    search(place, [tmp_path / "photos"], score=True, rerank="alphaqe:2", html=tmp_path / "page.html")
    assert "mAP" in capsys.readouterr().out
    assert "exact, by Milvus" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_class_is_what_open_index_opens(tmp_path, place):
    assert isinstance(made(tmp_path, place, random_rows(3)), MilvusIndex)


def test_the_best_crop_of_a_photo_counts(tmp_path, place):
    photos = photos_with_crops(names_of(30))
    index(crop_descriptors(tmp_path / "descriptors", photos), place)
    collection, queries = open_index(place), random_rows(3, seed=5)

    def assert_same():
        assert (len(collection), collection.row_count) == (len(photos), len(joined(photos)[0]))
        assert sorted(collection.names) == sorted(photos)
        for k in (1, 10, 100):
            for query, hits in zip(queries, collection.search(queries, k), strict=True):
                assert_best(hits, photos, query, k)
        some = [*photos][2:5]
        rows, crops = collection.crops(some)
        expected, boxes = joined({name: photos[name] for name in some})
        np.testing.assert_allclose(rows, expected, atol=1e-6)
        np.testing.assert_array_equal(crops.boxes, boxes.boxes)
        np.testing.assert_allclose(collection.vectors(some), [photos[name][0][0] for name in some], atol=1e-6)

    assert_same()
    new = photos_with_crops(names_of(9, first=25), seed=2)
    rows, crops = joined(new)
    collection.add([*new], rows, crops=crops)
    assert collection.delete(["3.jpg", "unknown"]) == 1
    photos = {name: found for name, found in (photos | new).items() if name != "3.jpg"}
    assert_same()
    assert {*collection.search(queries[:1], 9, where=Filter(["5.jpg", "26.jpg"]))[0].names} == {"5.jpg", "26.jpg"}
    with pytest.raises(ArgumentError, match="give the crops"):
        collection.add(["a"], random_rows(1))
