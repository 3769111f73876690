"""Tables of columns: all texts are read, and errors name the wrong row."""

import pytest

from export.index_contract.column_table import read_column_table
from export.index_contract.errors import ColumnTableError, IndexFileNotFoundError

NAMES = ["a.jpg", 'b,"\n.jpg', "c.jpg"]
CSV = '\ufeffcity,photo,year\nParis,a.jpg,1999\n"Köln, ""Dom""","b,""\n.jpg",\nRom,other.jpg,1\n'
LINES = """{"photo": "a.jpg", "city": "Paris", "year": 1999}
{"photo": "b,\\"\\n.jpg", "city": "Köln, \\"Dom\\"", "year": null}

{"photo": "other.jpg", "more": true}
"""


@pytest.mark.parametrize(("name", "text"), [("t.csv", CSV), ("t.jsonl", LINES), ("t.json", LINES)])
def test_tables_are_read(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert read_column_table(tmp_path / name, NAMES) == {"city": ["Paris", 'Köln, "Dom"', ""], "year": ["1999", "", ""]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "name,city\na.jpg,Paris\n", "row 2: no column 'photo'"),
        ("t.csv", "photo,city\na.jpg,Paris\na.jpg,Rom\n", "row 3: 'a.jpg' has a row already"),
        ("t.csv", b"\xff\xfe\x00", "is not a table of photo columns"),
        ("t.json", '{"photo": "a.jpg"}\n[1]\n', "row 2: no column"),
        ("t.json", '{"photo": 1}\n', "row 1: no column"),
        ("t.json", '{"photo": \n', "is not a table of photo columns"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ColumnTableError, match=message):
        read_column_table(tmp_path / name, NAMES)


def test_values_that_are_no_text_are_json(tmp_path):
    (tmp_path / "t.json").write_text('{"photo": "a.jpg", "x": true, "y": [1, 2.5], "z": "t"}')
    assert read_column_table(tmp_path / "t.json", ["a.jpg"]) == {"x": ["true"], "y": ["[1, 2.5]"], "z": ["t"]}


def test_a_missing_table_is_reported(tmp_path):
    with pytest.raises(IndexFileNotFoundError, match=r"there is no table of columns at .*t\.csv"):
        read_column_table(tmp_path / "t.csv", NAMES)
