"""Rows on disk: what is taken out is what was put in, to the precision of the form, and products are those of it."""

import numpy as np
import pytest

from export.folder_index.row_file import StoredRows, write_rows
from export.index_contract.settings import ROW_TYPES
from tests.helpers.small_index import random_rows


def stored(folder, rows, form):
    pieces = np.array_split(rows, 3)
    write_rows(folder, pieces, *rows.shape, form)
    return StoredRows(folder, form)


def reference(rows, form):
    """What a form makes of rows, written with numpy's own rounding where it has it."""
    if form == "int8":
        steps = np.abs(rows).max(axis=0) / 127
        return np.rint(rows / steps) * steps
    if form == "bfloat16":
        mantissa, exponent = np.frexp(rows.astype("float64"))
        return np.ldexp(np.rint(mantissa * 256) / 256, exponent)
    return rows


@pytest.mark.parametrize("form", ROW_TYPES)
def test_rows_are_those_of_their_form(tmp_path, form):
    rows, queries = random_rows(50, 12), random_rows(20, 12, seed=1)
    kept = stored(tmp_path, rows, form)
    expected = reference(rows, form)
    np.testing.assert_allclose(kept.take(slice(None)), expected, atol=1e-7)
    np.testing.assert_allclose(np.concatenate(list(kept.blocks(np.array([3, 1, 40])))), expected[[3, 1, 40]], atol=1e-7)
    np.testing.assert_allclose(np.concatenate(list(kept.blocks())), expected, atol=1e-7)
    ids = np.random.default_rng(0).integers(0, 50, (20, 7))
    products = [[query @ expected[i] for i in row] for query, row in zip(queries, ids, strict=True)]
    np.testing.assert_allclose(kept.products(queries, ids), products, atol=1e-6)
    assert kept.take(np.array([1])).dtype == kept.products(queries, ids).dtype == np.float32


@pytest.mark.parametrize(("form", "size"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_a_form_takes_its_bytes(tmp_path, form, size):
    stored(tmp_path, random_rows(1000, 16), form)
    assert (tmp_path / "rows.npy").stat().st_size == 128 + 16_000 * size


@pytest.mark.parametrize("form", ROW_TYPES)
def test_no_rows_and_rows_of_zeros(tmp_path, form):
    write_rows(tmp_path, [], 0, 4, form)
    assert len(StoredRows(tmp_path, form)) == 0
    write_rows(tmp_path, [np.zeros((2, 4), "f4")], 2, 4, form)
    np.testing.assert_array_equal(StoredRows(tmp_path, form).take(slice(None)), np.zeros((2, 4)))


def test_many_rows_are_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr("export.folder_index.row_file._READ_BELOW", 100)
    rows = random_rows(50, 12)
    np.testing.assert_array_equal(stored(tmp_path, rows, "float32").take(slice(None)), rows)
