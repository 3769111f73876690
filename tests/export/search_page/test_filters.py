"""Filters, listings and summaries equal naive loops over the photos."""

import numpy as np
import pytest

from export.search_page.catalogue import Catalogue
from export.search_page.errors import BadRequestError
from export.search_page.filters import PhotoFilter, filter_from_document, filter_from_query, inside
from export.search_page.listings import KEPT, Listings
from export.search_page.stacks import Stacks
from export.search_page.summaries import bounds_of, summary, values


@pytest.fixture(scope="module")
def photos():
    chance = np.random.default_rng(0)
    names = [f"{chance.integers(3)}/{chance.integers(4)}/IMG_{number}.jpg" for number in range(300)]
    times = [f"20{chance.integers(10, 14)}-0{chance.integers(1, 10)}-11T10:00:00" for _ in names]
    texts = [text if chance.random() < 0.8 else "" for text in times]
    latitude = [f"{chance.uniform(-90, 90):.3f}" if chance.random() < 0.7 else "" for _ in names]
    longitude = [f"{chance.uniform(-180, 180):.3f}" for _ in names]
    columns = {"time": texts, "latitude": latitude, "longitude": longitude}
    columns["city"] = chance.choice(["Paris", "Rom", ""], 300).tolist()
    return Catalogue(names, columns, chance.random(300) < 0.5, "1")


def kept(photos, condition):
    return [row for row in range(len(photos)) if condition(row)]


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ({}, lambda p, r: True),
        ({"folder": ["1"]}, lambda p, r: p.names[r].startswith("1/")),
        ({"folder": ["1/2/"]}, lambda p, r: p.names[r].startswith("1/2/")),
        ({"folder": ["1/"], "searchable": ["1"]}, lambda p, r: p.names[r].startswith("1/") and p.searchable[r]),
        ({"after": ["2011-03"]}, lambda p, r: p.time_texts[r] >= "2011-03"),
        ({"before": ["2011-03"]}, lambda p, r: "" < p.time_texts[r] < "2011-04"),
        ({"after": ["2011-05-11T10:00:00"], "before": ["2011-05-11T10:00:00"]},
         lambda p, r: p.time_texts[r] == "2011-05-11T10:00:00"),
        ({"area": ["-10,-20,30,40"]}, lambda p, r: -10 <= p.latitude[r] <= 30 and -20 <= p.longitude[r] <= 40),
        ({"area": ["-10,150,30,-150"]},
         lambda p, r: -10 <= p.latitude[r] <= 30 and (p.longitude[r] >= 150 or p.longitude[r] <= -150)),
        ({"area": ["-90,-500,90,400"]}, lambda p, r: p.latitude[r] == p.latitude[r]),
        ({"area": ["-10,190,30,200"]}, lambda p, r: -10 <= p.latitude[r] <= 30 and -170 <= p.longitude[r] <= -160),
        ({"column.city": ["Rom"]}, lambda p, r: p.columns["city"][r] == "Rom"),
        ({"column.city": ["Rom", ""], "text": ["img_1"]},
         lambda p, r: p.columns["city"][r] in ("Rom", "") and "IMG_1" in p.names[r]),
        ({"column.city": ["Bonn"]}, lambda p, r: False),
        ({"text": ["/2/"], "unknown": ["x"]}, lambda p, r: "/2/" in p.names[r]),
    ],
)  # fmt: skip
def test_filters_equal_a_loop(photos, query, condition):
    found = filter_from_query(query).rows(photos)
    assert found.tolist() == kept(photos, lambda row: condition(photos, row))


def test_a_document_and_a_query_mean_the_same(photos):
    document = {
        "folder": "1",
        "after": "2011",
        "before": None,
        "area": [0, -180, 90, 180],
        "columns": {"city": ["Rom"]},
    }
    query = {"folder": ["1"], "after": ["2011"], "area": ["0,-180,90,180"], "column.city": ["Rom"]}
    assert filter_from_document(document) == filter_from_query(query)
    assert filter_from_document(None) == PhotoFilter()
    assert not filter_from_document({"text": ""}).restricts


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"after": ["tomorrow"]}, "after must be a date or time such as 2017-07-18, got 'tomorrow'."),
        ({"before": ["2017-02-30"]}, "before must be a date"),
        ({"area": ["1,2,3"]}, "area must be four numbers"),
        ({"area": ["1,2,3,x"]}, "area must be four numbers"),
        ({"area": ["1,2,3,nan"]}, "area must be four finite numbers"),
        ({"area": ["3,2,1,4"]}, "south at most north"),
        ({"searchable": ["yes"]}, "searchable must be 0 or 1, got 'yes'."),
        (
            {"column.town": ["x"]},
            "column.town: the index has no column 'town'; its columns: time, ",
        ),
        ({"where": ["city"]}, "where: city is not a condition"),
        ({"where": ["city > a"]}, "where: 'city > a': > is for numbers and times"),
        ({"where": ["town = a"]}, "where: the index has no column 'town'"),
    ],
)
def test_wrong_parameters_are_named(photos, query, message):
    with pytest.raises(BadRequestError, match=message):
        filter_from_query(query).rows(photos)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "filter must be an object."),
        ({"town": 1}, "filter has no field 'town'; its fields: folder, after, before, area, columns, where, text."),
        ({"folder": 1}, "filter.folder must be a string."),
        ({"area": "1,2,3,4"}, "filter.area must be a list of four numbers."),
        ({"area": [1, 2, 3, True]}, "filter.area must be four numbers"),
        ({"area": [1, 2, 3, None]}, "filter.area must be four numbers"),
        ({"area": [0, 0, 1, 10**400]}, "filter.area must be four numbers"),
        ({"columns": {"city": "Rom"}}, "filter.columns.city must be a list of strings."),
        ({"columns": ["city"]}, "filter.columns must be an object of lists of strings."),
        ({"after": "x"}, "filter.after must be a date"),
        ({"where": "city = Rom"}, "filter.where must be a list of conditions."),
        ({"where": [1]}, "filter.where must be a list of conditions."),
        ({"where": ["city"]}, "filter.where: city is not a condition"),
    ],
)
def test_wrong_fields_are_named(document, message):
    with pytest.raises(BadRequestError, match=message):
        filter_from_document(document)


def test_conditions_on_columns_are_those_of_searches():
    columns = {"year": ["1999", "2010", ""], "tags": ['["red"]', '["red", "blue"]', ""], "time": ["2017", "", "2018"]}
    types = {"year": "number", "tags": "texts", "time": "time"}
    photos = Catalogue(["a", "b", "c"], columns, types=types)
    for conditions, rows in (
        (["year >= 2000"], [1]),
        (["year != 2010", "tags = red"], [0]),
        (["tags all red, blue"], [1]),
        (["time < 2018"], [0]),
        (["photo in a, c"], [0, 2]),
        (["tags = blue", "tags = "], [1, 2]),
    ):
        query, document = filter_from_query({"where": conditions}), filter_from_document({"where": conditions})
        assert query == document
        assert query.restricts
        assert query.rows(photos).tolist() == rows


def stacks_of(photos, numbers):
    return Stacks(np.array(numbers), np.array([True, False]), "s")


def test_listings_are_sorted_and_stacked(photos):
    numbers = np.full(len(photos), -1)
    numbers[[3, 50, 7]], numbers[[4, 5]] = 0, 1
    stacks, listings = stacks_of(photos, numbers), Listings()
    for order in ("name", "time", "time-desc"):
        whole = listings.listing(photos, stacks, PhotoFilter(), order, False, None)
        times = photos.times[whole.rows]
        known = times[np.isfinite(times)]
        assert sorted(whole.rows.tolist()) == list(range(len(photos)))
        if order != "name":
            assert np.isnan(times[len(known) :]).all()
            assert (np.diff(known) * (1 if order == "time" else -1) >= 0).all()
        stacked = listings.listing(photos, stacks, PhotoFilter(), order, True, None)
        seen, expected = set(), []
        for row in whole.rows.tolist():
            if numbers[row] < 0 or numbers[row] not in seen:
                expected.append(row)
            seen.add(numbers[row])
        assert stacked.rows.tolist() == expected
        assert {row: count for row, count in zip(expected, stacked.counts.tolist(), strict=True) if count > 1} == {
            next(row for row in expected if numbers[row] == number): count for number, count in ((0, 3), (1, 2))
        }
        assert stacked.place_of(50, stacks) == expected.index(next(row for row in expected if numbers[row] == 0))
        assert whole.place_of(50, stacks) == whole.rows.tolist().index(50)
    members = listings.listing(photos, stacks, PhotoFilter(), "name", False, 7)
    assert members.rows.tolist() == [3, 7, 50]
    assert listings.listing(photos, stacks, PhotoFilter(), "name", False, 8).rows.tolist() == [8]
    assert members.place_of(8, stacks) is None


def test_listings_are_made_once_for_each_version(photos):
    listings, stacks = Listings(), Stacks.none(photos)

    def made(text, version="1"):
        catalogue = photos.with_searchable(photos.searchable, version)
        return listings.listing(catalogue, stacks, PhotoFilter(text=text), "name", False, None)

    first = made("1")
    assert made("1") is first
    assert made("1", "2") is not first
    for number in range(KEPT):
        made(str(number + 10))
    assert made("1") is not first


def test_a_summary_equals_loops(photos):
    rows = PhotoFilter(searchable=True).rows(photos)
    found = summary(photos, rows, None, 7)
    names = [photos.names[row] for row in rows]
    assert found["total"] == len(rows)
    assert found["folders"] == [
        {"path": path, "count": sum(name.startswith(f"{path}/") for name in names)}
        for top in "012"
        for path in (top, *(f"{top}/{below}" for below in "0123"))
    ]
    by_time = sorted((row for row in rows.tolist() if photos.time_texts[row]), key=lambda row: photos.times[row])
    months = sorted({photos.time_texts[row][:7] for row in by_time})
    assert found["times"] == {
        "unit": "month",
        "bins": [
            {
                "start": f"{month}-01",
                "count": sum(photos.time_texts[row].startswith(month) for row in by_time),
                "row": [photos.time_texts[row][:7] for row in by_time].index(month),
            }
            for month in months
        ],
    }
    located = [row for row in rows if np.isfinite(photos.latitude[row])]
    assert found["positions"]["count"] == len(located) == sum(cell["count"] for cell in found["positions"]["cells"])
    cities = [photos.columns["city"][row] for row in rows]
    assert found["columns"]["city"] == {
        "type": "text",
        "role": "",
        "count": len(cities) - cities.count(""),
        "empty": cities.count(""),
        "distinct": 2,
        "values": sorted(
            ({"value": city, "count": cities.count(city)} for city in ("Paris", "Rom")),
            key=lambda entry: -entry["count"],
        ),
    }
    roles = {column: facts["role"] for column, facts in found["columns"].items()}
    assert roles == {"city": "", "time": "time", "latitude": "latitude", "longitude": "longitude"}


@pytest.fixture(scope="module")
def typed():
    """Photos with a column of each type."""
    columns = {
        "city": ["Paris", "paris Nord", "", "Rome", "St-Paris"],
        "year": ["1999", "", "-3.5", "2010", "7"],
        "seen": ["2017-07", "2017-07-18T10:00:00", "", "2017", "2018"],
        "tags": ['["red", "door"]', "", '["red"]', '["a, b"]', '["red", "a, b"]'],
        "none": [""] * 5,
        "bytes": ["1"] * 5,
    }
    return Catalogue(list("abcde"), columns, types={"year": "number", "seen": "time", "tags": "texts"})


def test_a_summary_describes_columns_by_their_type(typed):
    found = summary(typed, np.arange(5), None, 1)["columns"]
    assert {column: (facts["type"], facts["count"], facts["empty"]) for column, facts in found.items()} == {
        "city": ("text", 4, 1), "year": ("number", 4, 1), "seen": ("time", 4, 1), "tags": ("texts", 4, 1),
        "none": ("text", 0, 5),
    }  # fmt: skip
    assert found["year"]["range"] == ["-3.5", "2010"]
    assert found["seen"]["range"] == ["2017", "2018"]
    assert found["tags"]["values"] == [
        {"value": "red", "count": 3}, {"value": "a, b", "count": 2}, {"value": "door", "count": 1}
    ]  # fmt: skip
    assert (found["tags"]["distinct"], found["none"]["distinct"], found["none"]["values"]) == (3, 0, [])
    assert summary(typed, np.array([2]), None, 1)["columns"]["seen"]["range"] is None


def test_values_that_begin_with_a_text_come_first(typed):
    rows = np.arange(5)
    found = values(typed, "city", rows, "PARIS", 2)
    assert found == {"total": 3, "values": [{"value": "Paris", "count": 1}, {"value": "paris Nord", "count": 1}]}
    assert values(typed, "tags", rows, "", 1) == {"total": 3, "values": [{"value": "red", "count": 3}]}
    assert values(typed, "tags", np.array([3]), "", 9)["values"] == [{"value": "a, b", "count": 1}]
    assert values(typed, "none", rows, "x", 9) == {"total": 0, "values": []}
    with pytest.raises(BadRequestError, match="column: the photos have no column 'bytes'; their columns: city, year"):
        values(typed, "bytes", rows, "", 9)
    with pytest.raises(BadRequestError, match="'year' has numbers or times"):
        values(typed, "year", rows, "", 9)


def test_accepted_values_are_of_the_type_of_their_column(typed):
    assert filter_from_query({"column.tags": ["red"]}).rows(typed).tolist() == [0, 2, 4]
    assert filter_from_query({"column.year": ["1999.0", ""]}).rows(typed).tolist() == [0, 1]
    assert filter_from_query({"column.seen": ["2017-07"]}).rows(typed).tolist() == [0, 1]
    with pytest.raises(BadRequestError, match=r"column\.year: .*'year' is a number, got soon"):
        filter_from_query({"column.year": ["soon"]}).rows(typed)


@pytest.mark.parametrize(
    ("texts", "unit", "starts"),
    [
        (["2020-01-01", "2020-01-01T12:00:00", "2020-02-03"], "day", ["2020-01-01", "2020-02-03"]),
        (["2020-01-31", "2020-06-01"], "month", ["2020-01-01", "2020-06-01"]),
        (["1850", "2020"], "year", ["1850-01-01", "2020-01-01"]),
    ],
)
def test_the_unit_of_the_time_line_follows_its_length(texts, unit, starts):
    photos = Catalogue([str(number) for number in range(len(texts))], {"time": texts})
    times = summary(photos, np.arange(len(texts)), None, 9)["times"]
    assert (times["unit"], [bar["start"] for bar in times["bins"]]) == (unit, starts)
    assert times["bins"][-1]["row"] == len(texts) - 1


def test_a_map_may_cross_the_antimeridian():
    photos = Catalogue(["a", "b", "c"], {"lat": ["-17", "-18", "-17.5"], "lon": ["179", "-179", "179.9"]})
    found = summary(photos, np.arange(3), None, 2)["positions"]
    assert found["bounds"] == [-18, 179, -17, -179]
    assert [cell["name"] for cell in found["cells"]] == ["b", "a"]
    assert found["cells"][1] == {"lat": -17.25, "lon": pytest.approx(179.45), "count": 2, "name": "a"}
    area = (-18, 178, -17, 179.95)
    found = summary(photos, np.arange(3), area, 1)["positions"]
    assert (found["count"], found["cells"][0]["count"]) == (2, 2)
    nowhere = summary(photos, np.arange(3), (0, 0, 1, 1), 1)["positions"]
    assert (nowhere["count"], nowhere["cells"]) == (0, [])


def test_the_bounds_are_the_narrowest_that_contain_all():
    chance = np.random.default_rng(1)
    for _ in range(50):
        longitude = (chance.uniform(-180, 180) + chance.uniform(0, 100, chance.integers(1, 9)) + 180) % 360 - 180
        south, west, north, east = bounds_of(np.zeros(len(longitude)), longitude)
        assert inside((south, west, north, east), np.zeros(len(longitude)), longitude).all()
        assert (east - west) % 360 <= 100
        assert {west, east} <= set(longitude.tolist())


def test_photos_without_facts_have_short_summaries():
    photos = Catalogue(["a", "b"])
    assert summary(photos, np.arange(2), None, 5) == {
        "version": "", "total": 2, "folders": [], "times": None, "positions": None, "columns": {},
    }  # fmt: skip
