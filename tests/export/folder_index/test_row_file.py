"""Rows on disk: they are read as written, to the precision of their number type, and products are exact for it."""

import numpy as np
import pytest

from export.folder_index.row_file import StoredRows, write_rows
from export.index_contract.index_settings import ROW_TYPES
from tests.helpers.small_index import random_rows


def stored(folder, rows, row_type):
    pieces = np.array_split(rows, 3)
    write_rows(folder, pieces, *rows.shape, row_type)
    return StoredRows(folder, row_type)


def reference(rows, row_type):
    """Rows as a number type represents them, with numpy's own rounding if it has one."""
    if row_type == "int8":
        steps = np.abs(rows).max(axis=0) / 127
        return np.rint(rows / steps) * steps
    if row_type == "bfloat16":
        mantissa, exponent = np.frexp(rows.astype("float64"))
        return np.ldexp(np.rint(mantissa * 256) / 256, exponent)
    return rows


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_rows_are_those_of_their_form(tmp_path, row_type):
    rows, queries = random_rows(50, 12), random_rows(20, 12, seed=1)
    kept = stored(tmp_path, rows, row_type)
    expected = reference(rows, row_type)
    np.testing.assert_allclose(kept.take(slice(None)), expected, atol=1e-7)
    np.testing.assert_allclose(np.concatenate(list(kept.blocks(np.array([3, 1, 40])))), expected[[3, 1, 40]], atol=1e-7)
    np.testing.assert_allclose(np.concatenate(list(kept.blocks())), expected, atol=1e-7)
    ids = np.random.default_rng(0).integers(0, 50, (20, 7))
    products = [[query @ expected[i] for i in row] for query, row in zip(queries, ids, strict=True)]
    np.testing.assert_allclose(kept.products(queries, ids), products, atol=1e-6)
    assert kept.take(np.array([1])).dtype == kept.products(queries, ids).dtype == np.float32


@pytest.mark.parametrize(("row_type", "size"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_a_form_takes_its_bytes(tmp_path, row_type, size):
    stored(tmp_path, random_rows(1000, 16), row_type)
    assert (tmp_path / "rows.npy").stat().st_size == 128 + 16_000 * size


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_no_rows_and_rows_of_zeros(tmp_path, row_type):
    write_rows(tmp_path, [], 0, 4, row_type)
    assert len(StoredRows(tmp_path, row_type)) == 0
    write_rows(tmp_path, [np.zeros((2, 4), "f4")], 2, 4, row_type)
    np.testing.assert_array_equal(StoredRows(tmp_path, row_type).take(slice(None)), np.zeros((2, 4)))


def test_many_rows_are_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr("export.folder_index.row_file._READ_BELOW", 100)
    rows = random_rows(50, 12)
    np.testing.assert_array_equal(stored(tmp_path, rows, "float32").take(slice(None)), rows)


def test_the_disk_has_room_for_all_rows_before_the_first_is_written(tmp_path):
    def blocks():
        facts = (tmp_path / "rows.npy").stat()
        assert facts.st_blocks * 512 >= facts.st_size > 2**20
        yield np.zeros((2_000, 256), np.float32)

    write_rows(tmp_path, blocks(), 2_000, 256, "float32")
