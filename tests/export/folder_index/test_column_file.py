"""Columns on disk: every value is found again, and filters match what a loop over the values matches."""

import numpy as np

from export.folder_index.column_file import StoredColumns, write_columns
from export.index_contract.contract import Filter


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
