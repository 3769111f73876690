"""Tables of photos: every text is found again, and rows that are none are named."""

import numpy as np
import pytest

from export.folder_index.column_file import StoredColumns, write_columns
from export.index_contract.contract import Filter
from export.index_contract.photos import read_table

NAMES = ["a.jpg", 'b,"\n.jpg', "c.jpg"]
CSV = '\ufeffcity,photo,year\nParis,a.jpg,1999\n"Köln, ""Dom""","b,""\n.jpg",\nRom,other.jpg,1\n'
LINES = """{"photo": "a.jpg", "city": "Paris", "year": 1999}
{"photo": "b,\\"\\n.jpg", "city": "Köln, \\"Dom\\"", "year": null}

{"photo": "other.jpg", "more": true}
"""


@pytest.mark.parametrize(("name", "text"), [("t.csv", CSV), ("t.jsonl", LINES), ("t.json", LINES)])
def test_tables_are_read(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert read_table(tmp_path / name, NAMES) == {"city": ["Paris", 'Köln, "Dom"', ""], "year": ["1999", "", ""]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "name,city\na.jpg,Paris\n", "row 2: no column 'photo'"),
        ("t.csv", "photo,city\na.jpg,Paris\na.jpg,Rom\n", "row 3: 'a.jpg' has a row already"),
        ("t.csv", b"\xff\xfe\x00", "no table of photos"),
        ("t.json", '{"photo": "a.jpg"}\n[1]\n', "row 2: no column"),
        ("t.json", '{"photo": 1}\n', "row 1: no column"),
        ("t.json", '{"photo": \n', "no table of photos"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name, NAMES)


def test_values_that_are_no_text_are_json(tmp_path):
    (tmp_path / "t.json").write_text('{"photo": "a.jpg", "x": true, "y": [1, 2.5], "z": "t"}')
    assert read_table(tmp_path / "t.json", ["a.jpg"]) == {"x": ["true"], "y": ["[1, 2.5]"], "z": ["t"]}


def test_columns_are_kept_and_matched(tmp_path):
    columns = {"city": ["Paris", "", "line\nbreak", "Paris"], "year": ["1", "2", "1", "2"]}
    write_columns(tmp_path, columns)
    table = StoredColumns(tmp_path, list(columns))
    assert table.take(np.array([2, 0])) == {"city": ["line\nbreak", "Paris"], "year": ["1", "1"]}
    conditions = [{"city": ["Paris"]}, {"city": ["", "line\nbreak"], "year": ["1"]}, {"year": ["3"]}, {"year": []}]
    for condition in conditions:
        expected = [all(columns[key][row] in condition[key] for key in condition) for row in range(4)]
        np.testing.assert_array_equal(table.matches(Filter(columns=condition)), expected)
    assert table.matches(Filter()) is True
