"""Tables of columns: all texts are read, and errors name the wrong row."""

import csv

import pytest

from export.index_contract.checks import new_columns
from export.index_contract.column_table import parse_types, read_column_table
from export.index_contract.errors import ColumnTableError, IndexFileNotFoundError
from keras_retrieval.errors import ArgumentError

NAMES = ["a.jpg", 'b,"\n.jpg', "c.jpg"]
CSV = '\ufeffcity,photo,year\nParis,a.jpg,1999\n"Köln, ""Dom""","b,""\n.jpg",\nRom,other.jpg,1\n'
LINES = """{"photo": "a.jpg", "city": "Paris", "year": 1999}
{"photo": "b,\\"\\n.jpg", "city": "Köln, \\"Dom\\"", "year": null}

{"photo": "other.jpg", "more": true}
"""


@pytest.mark.parametrize(("name", "text"), [("t.csv", CSV), ("t.jsonl", LINES), ("t.json", LINES)])
def test_tables_are_read(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    table = read_column_table(tmp_path / name, NAMES)
    assert table.texts() == {"city": ["Paris", 'Köln, "Dom"', ""], "year": ["1999", "", ""]}
    assert table.columns["year"] == ["1999", "", None]
    assert table.types == {"city": "text", "year": "number"}
    assert table.stated == [True, True, False]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "id,city\na.jpg,Paris\n", "t.csv has the columns id, city: needed are 'photo' and others"),
        ("t.csv", "photo,city\na.jpg,Paris\na.jpg,Rom\n", "line 3: photo 'a.jpg' occurs twice, also at .*line 2"),
        ("t.csv", "photo,city\na.jpg,Paris\na,Rom\n", "line 3: photo 'a.jpg' occurs twice"),
        ("t.csv", "photo,city\na.jpg,Paris,75001\n", "line 2: it has 3 cells, and the heading 2"),
        ("t.csv", "photo,city\nz.jpg,Paris\n", "none of its 1 rows names one of the 3 photos: a row names z.jpg"),
        ("t.csv", "photo,city\n", "t.csv has no rows below its heading"),
        ("t.csv", "photo,city\n ,Paris\n", "line 2: photo is empty"),
        ("t.csv", b"\xff\xfe\x00", "is not UTF-16-LE"),
        ("t.json", '{"photo": "a.jpg"}\n[1]\n', "line 2: no column"),
        ("t.json", '{"photo": 1}\n', "line 1: no column"),
        ("t.json", '{"photo": \n', "line 1 is not a JSON object"),
        ("t.json", '{"photo": "a.jpg"}\n\n{"photo": "a"}\n', "line 3: photo 'a.jpg' occurs twice"),
        ("t.json", b"\xe9", "is not a table of photo columns"),
        ("t.json", '{"photo": "a.jpg", "": 1}\n', "t.json: a column cannot be named ''"),
        ("t.json", '{"photo": "a.jpg", "x": "\\uD800"}\n', "line 1 is not a JSON object: .*surrogates not allowed"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ColumnTableError, match=message):
        read_column_table(tmp_path / name, NAMES)


def test_values_that_are_no_text_are_json(tmp_path):
    (tmp_path / "t.json").write_text('{"photo": "a.jpg", "x": true, "y": [1, 2.5], "z": "t", "w": ["b", "a", "b"]}')
    table = read_column_table(tmp_path / "t.json", ["a.jpg"])
    assert table.texts() == {"w": ['["b", "a"]'], "x": ["true"], "y": ["[1, 2.5]"], "z": ["t"]}
    assert table.types == {"w": "texts", "x": "text", "y": "text", "z": "text"}


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ("NaN 1", "number", ["", "1"]),  # as Python and pandas write a missing number
        ("Infinity 1", "text", ["Infinity", "1"]),
        ("1e300 -2.0", "number", ["1e+300", "-2"]),
        ("1234567890123456 1", "text", ["1234567890123456", "1"]),  # which no float holds
        ("null NaN", "text", ["", ""]),
        ("1.5 []", "number", ["1.5", ""]),  # an empty list is no value
        ("[] []", "texts", ["", ""]),
        ('"a" []', "text", ["a", "[]"]),
    ],
)
def test_numbers_of_json_stay_what_they_are(tmp_path, values, kind, stored):
    lines = [f'{{"photo": "{row}.jpg", "x": {value}}}\n' for row, value in enumerate(values.split())]
    (tmp_path / "t.jsonl").write_text("".join(lines))
    table = read_column_table(tmp_path / "t.jsonl", ["0.jpg", "1.jpg"])
    assert (table.types["x"], table.texts()["x"]) == (kind, stored)


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        (["1", "2.50", ""], "number", ["1", "2.5", ""]),
        (["1,5", "-3", "1.234,5"], "number", ["1.5", "-3", "1234.5"]),
        (["01234", "1"], "text", ["01234", "1"]),
        (["1234567890123456789"], "text", ["1234567890123456789"]),
        (["2017-07-18", "2017-07", ""], "time", ["2017-07-18", "2017-07", ""]),
        (["2017", "1999"], "number", ["2017", "1999"]),
        (["2017", "2017-07"], "time", ["2017", "2017-07"]),
        (["0123", "0456"], "text", ["0123", "0456"]),
        (["2017-13-01"], "text", ["2017-13-01"]),
        (["1e400", "2"], "text", ["1e400", "2"]),  # no float holds it
        (["1850-02-03", "9999-12-31"], "time", ["1850-02-03", "9999-12-31"]),
        (['["a", "b"]', "[]"], "texts", ['["a", "b"]', ""]),
        (["[1]"], "text", ["[1]"]),
        (["", ""], "text", ["", ""]),
        (["1", "one"], "text", ["1", "one"]),
    ],
)
def test_the_narrowest_type_of_all_values_is_that_of_the_column(tmp_path, values, kind, stored):
    names = [f"{row}.jpg" for row in range(len(values))]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file, delimiter="|").writerows([["photo", "x"], *zip(names, values, strict=True)])
    table = read_column_table(tmp_path / "t.csv", names)
    assert (table.types["x"], table.texts()["x"]) == (kind, stored)


def test_types_are_given(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("photo,tags,year\na.jpg,red; round ;red,1999\nc.jpg,,x\n")
    assert read_column_table(path, NAMES, {"tags": "texts"}).texts()["tags"] == ['["red", "round"]', "", ""]
    with pytest.raises(ColumnTableError, match=r"line 3: year: 'x' is not a number; --types year=text keeps it"):
        read_column_table(path, NAMES, {"year": "number"})
    with pytest.raises(ColumnTableError, match=r"line 2: year: it must be a time such as .*, got '?1999|line 3: year"):
        read_column_table(path, NAMES, {"year": "time"})
    with pytest.raises(ColumnTableError, match=r"has no column 'colour'; its columns: tags, year"):
        read_column_table(path, NAMES, {"colour": "text"})
    assert read_column_table(path, NAMES, {"tags": "texts"}, {"year": "text"}).types == {
        "tags": "texts",
        "year": "text",
    }
    with pytest.raises(
        ColumnTableError, match=r"line 3: year: 'x' is not a number; the index has this column as a number"
    ):
        read_column_table(path, NAMES, {}, {"year": "number"})
    with pytest.raises(ColumnTableError, match=r"--types year=text: the index has 'year' as a number, which cannot be"):
        read_column_table(path, NAMES, {"year": "text"}, {"year": "number"})
    assert parse_types(["a=b=number", "c=texts"]) == {"a=b": "number", "c": "texts"}
    for wrong in ("year", "year=int", "=text"):
        with pytest.raises(ValueError, match="--types must have the form COLUMN=TYPE"):
            parse_types([wrong])


def test_a_missing_table_is_reported(tmp_path):
    with pytest.raises(IndexFileNotFoundError, match=r"there is no table of columns at .*t\.csv"):
        read_column_table(tmp_path / "t.csv", NAMES)


def test_spreadsheets_and_paths_of_other_machines_are_read_and_counted(tmp_path, caplog):
    text = "Filename;City;Year\r\nC:\\shots\\a.jpg;Paris;1,5\r\nc;Rom;\r\nd.jpg;Bonn;\r\n;;\r\n"
    (tmp_path / "t.csv").write_bytes(text.encode("utf-16"))
    with caplog.at_level("INFO", "keras_retrieval"):
        found = read_column_table(tmp_path / "t.csv", NAMES)
    assert found.texts() == {"City": ["Paris", "", "Rom"], "Year": ["1.5", "", ""]}
    assert caplog.messages[0].startswith(f"{tmp_path / 't.csv'}: 2 of 3 photos have a row; photos without a row: 1")
    assert caplog.messages[0].endswith("; rows without a photo: 1, such as d.jpg")


@pytest.mark.parametrize("types", [{"": "text"}, {" ": "text"}, {"photo": "text"}, {1: "text"}, {"\ud800": "text"}])
def test_names_by_which_no_condition_can_name_a_column_are_refused(types):
    with pytest.raises(ArgumentError, match=r"^a column cannot be named '.*': give it another name$"):
        new_columns(types, {"columns": []})
