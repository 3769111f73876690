"""Columns on disk: every value is found again, and conditions match what a loop over the values matches."""

import numpy as np

from export.folder_index.column_file import read_columns, write_columns
from export.index_contract.conditions import IN, Condition

COLUMNS = {"city": ["Paris", "", "line\nbreak", "Paris"], "year": ["1", "2", "1", ""]}


def test_columns_are_kept_and_matched(tmp_path):
    write_columns(tmp_path, COLUMNS)
    table = read_columns(tmp_path, list(COLUMNS), {"year": "number"})
    assert table.take(np.array([2, 0])) == {"city": ["line\nbreak", "Paris"], "year": ["1", "1"]}
    conditions = [("city", ["Paris"]), ("city", ["", "line\nbreak"]), ("year", ["1"]), ("year", ["3"]), ("year", [])]
    for column, values in conditions:
        expected = [text in values for text in COLUMNS[column]]
        np.testing.assert_array_equal(table.matches(Condition(column, IN, tuple(values))), expected)
    assert table.matches(Condition("year", ">=", ("1.5",))).tolist() == [False, True, False, False]


def test_changed_columns_are_new_and_the_old_ones_stay(tmp_path):
    write_columns(tmp_path, COLUMNS)
    table = read_columns(tmp_path, list(COLUMNS), {})
    changed = table.replaced(np.array([3, 1]), {"city": ["Rome", "Paris"]})
    every = np.arange(4)
    assert changed.take(every) == {"city": ["Paris", "Paris", "line\nbreak", "Rome"], "year": COLUMNS["year"]}
    assert table.take(every) == COLUMNS
