"""The catalogue: natural order, times in many forms, positions by many names, and facts for JSON."""

import json
import random

import numpy as np
import pytest

from export.index_contract.photo_time import day_of, time_span
from export.search_page.catalogue import Catalogue
from export.search_page.natural_order import natural_order
from keras_retrieval.errors import ArgumentError


@pytest.mark.parametrize(
    "names",
    [
        ["a2.jpg", "a010.jpg", "a10.jpg", "A11.jpg", "b.jpg"],
        ["top.jpg", "a/2/x.jpg", "a/10/x.jpg", "a b/1.jpg", "b/1.jpg"],
        ["1.jpg", "9" * 5_000 + ".jpg", "x1y2.jpg", "x1y10.jpg"],
        ["", "é.jpg", "\udcff.jpg"],
    ],
)
def test_numbers_in_names_are_compared_by_value_folder_by_folder(names):
    mixed = random.Random(1).sample(names, len(names))
    assert [mixed[row] for row in natural_order(mixed)] == names


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2017", "2017-01-01T00:00:00", "2018-01-01T00:00:00"),
        ("2017-12", "2017-12-01T00:00:00", "2018-01-01T00:00:00"),
        ("2016-02-29", "2016-02-29T00:00:00", "2016-03-01T00:00:00"),
        ("2017-07-18T10:30", "2017-07-18T10:30:00", "2017-07-18T10:31:00"),
        ("2017-07-18T10:30:05Z", "2017-07-18T10:30:05", "2017-07-18T10:30:06"),
        ("2017:07:18 10:30:05", "2017-07-18T10:30:05", "2017-07-18T10:30:06"),
        ("2017-07-18 10:30:05.25+02:00", "2017-07-18T10:30:05", "2017-07-18T10:30:06"),
        (" 0001-01-01 ", "0001-01-01T00:00:00", "0001-01-02T00:00:00"),
    ],
)
def test_a_time_covers_the_period_that_its_text_gives(text, start, end):
    span = time_span(text)
    assert [day_of(seconds).isoformat()[:19] for seconds in span] == [start, end]


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2017-13", "2017-02-30", "2017-07-18T25:00", "17-07-18", "0000", "10000-01-01", "2017-7-1"],
)
def test_other_texts_are_no_times(text):
    assert time_span(text) is None


def test_the_last_day_that_can_be_written_is_a_time():
    """Databases write it for "no end"."""
    first = time_span("9999-12-31T23:59:59")[0]
    for text in ("9999", "9999-12", "9999-12-31", "9999-12-31T23:59", "9999-12-31T23:59:59"):
        assert time_span(text)[1] == first + 1


def test_columns_become_times_and_positions_by_their_names():
    columns = {
        "Date Taken": ["2020", "", "2019-05-06T07:08:09"],
        "GPS Latitude": ["48.5", "-90", "x"],
        "lng": ["2.25", "180", "3"],
        "city": ["Paris", "", "Rom"],
        "modified": ["1", "2", "3"],
    }
    catalogue = Catalogue(["b.jpg", "c.jpg", "a.jpg"], columns, {"c.jpg"}, "7")
    assert catalogue.names == ["a.jpg", "b.jpg", "c.jpg"]
    assert catalogue.searchable.tolist() == [False, False, True]
    assert np.isnan(catalogue.times).tolist() == [False, False, True]
    assert list(catalogue.columns) == ["city"]
    assert json.loads(json.dumps([catalogue.facts(row) for row in range(3)])) == [
        {"name": "a.jpg", "searchable": False, "time": "2019-05-06T07:08:09", "latitude": None, "longitude": None,
         "columns": {"city": "Rom"}},
        {"name": "b.jpg", "searchable": False, "time": "2020", "latitude": 48.5, "longitude": 2.25,
         "columns": {"city": "Paris"}},
        {"name": "c.jpg", "searchable": True, "time": None, "latitude": -90.0, "longitude": 180.0, "columns": {}},
    ]  # fmt: skip


def test_positions_need_one_column_of_each():
    for columns in ({"lat": ["1"]}, {"lat": ["1"], "Latitude_": ["2"], "lon": ["3"]}):
        assert not Catalogue(["a"], columns).has_positions
    assert Catalogue(["a"], {"lat": ["1"], "latitude": ["2"], "lon": ["3"]}).latitude.tolist() == [2]


def test_a_catalogue_of_other_searchable_photos_shares_the_rest():
    catalogue = Catalogue(["a10", "a9"], {"city": ["x", "y"]}, np.array([True, False]), "1")
    assert catalogue.searchable.tolist() == [False, True]
    more = catalogue.with_searchable(["a9"], "2")
    assert (more.names, more.version, more.searchable.tolist()) == (["a9", "a10"], "2", [True, False])
    assert more.columns is catalogue.columns
    assert catalogue.version == "1"
    for wrong in (lambda: catalogue.with_searchable(np.ones(3, bool), "3"), lambda: Catalogue(["a"], {"x": []})):
        with pytest.raises(ArgumentError):
            wrong()


def test_an_empty_catalogue_has_nothing():
    empty = Catalogue([], {"time": [], "lat": [], "lon": [], "city": []})
    assert (len(empty), empty.has_times, empty.has_positions, empty.has_folders) == (0, False, False, False)
