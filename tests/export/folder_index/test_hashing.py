"""Hashes of a collection that is too large to be given to ScaNN at once: trained on a sample, computed in blocks."""

import subprocess
import sys

import numpy as np
import pytest

from export.folder_index import hashing
from export.folder_index.hashing import write_hashes
from export.folder_index.scann_searcher import AXES, load_searcher, train_searcher
from export.index_contract.errors import IndexWriteError
from export.index_contract.index_settings import IndexSettings
from pipelines.files.child_process import clean_environment

pytest.importorskip("scann")

COUNT, DIMENSIONS = 900, 16
SETTINGS = IndexSettings(sample=200)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, DIMENSIONS))[rng.integers(30, size=COUNT)] + 0.3 * rng.normal(size=(COUNT, DIMENSIONS))
    path = tmp_path_factory.mktemp("rows") / 'rows "of" é'
    path.mkdir()
    np.save(path / "rows.npy", (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return path / "rows.npy"


def in_blocks(monkeypatch, rows):
    monkeypatch.setattr(hashing, "AT_ONCE", 0)
    monkeypatch.setattr(hashing, "BLOCK", rows * DIMENSIONS * 4)


@pytest.mark.parametrize(("leaves", "soar"), [(8, 1.5), (8, 0.0), (0, 1.5)])
def test_blocks_give_the_files_of_one_build(file, tmp_path, monkeypatch, leaves, soar):
    settings = IndexSettings(sample=COUNT, soar=soar)
    expected = train_searcher(np.load(file), leaves, settings)
    (tmp_path / "whole").mkdir()
    expected.save(tmp_path / "whole")
    monkeypatch.setattr(hashing, "train_searcher", lambda *_: expected)  # the training is not deterministic
    in_blocks(monkeypatch, 250)
    monkeypatch.setattr(hashing.os, "sched_getaffinity", lambda _: {0, 1})
    searcher = write_hashes(tmp_path / "blocks", file, leaves, settings)
    written = {path.name for path in (tmp_path / "blocks").iterdir()}
    assert written == {path.name for path in (tmp_path / "whole").iterdir()}
    for name in written:
        read = np.load if name.endswith(".npy") else type(file).read_bytes
        np.testing.assert_array_equal(*(read(tmp_path / kind / name) for kind in ("blocks", "whole")), err_msg=name)
    queries = np.load(file)[:40]
    np.testing.assert_array_equal(searcher.candidates(queries, 5, 8), expected.candidates(queries, 5, 8))


@pytest.mark.parametrize("in_one", [True, False])
@pytest.mark.parametrize("leaves", [8, 0])
def test_leading_directions_are_hashed_where_these_are_enough(tmp_path, monkeypatch, in_one, leaves):
    """Rows of 64 dimensions, of which 16 directions have nearly all: hashes of a quarter of the size."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(64, 64)))
    rows = (rng.normal(size=(COUNT, 64)) * np.where(np.arange(64) < 14, 1, 0.03)) @ turn
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    if not in_one:
        in_blocks(monkeypatch, 250)
    made = write_hashes(tmp_path / "scann", tmp_path / "rows.npy", leaves, SETTINGS)
    axes = np.load(tmp_path / "scann" / AXES)
    assert axes.shape == (64, 16)
    np.testing.assert_allclose(axes.T @ axes, np.eye(16), atol=1e-5)
    assert np.load(tmp_path / "scann" / "hashed_dataset.npy").shape == (COUNT, 16 // SETTINGS.block)
    queries = rows[:50]
    exact = np.argsort(-(queries @ rows.T), axis=1)[:, :5]
    for searcher in (made, load_searcher(tmp_path / "scann", leaves)):
        found = searcher.candidates(queries, 100, 8)  # a ninth of the rows; training is not deterministic
        assert np.mean([np.isin(best, row).mean() for best, row in zip(exact, found, strict=True)]) >= 0.9


def test_all_dimensions_are_hashed_where_all_matter(file, tmp_path):
    write_hashes(tmp_path / "scann", file, 8, SETTINGS)
    assert not (tmp_path / "scann" / AXES).exists()


def test_it_is_trained_on_the_sample_only(file, tmp_path, monkeypatch):
    in_blocks(monkeypatch, COUNT)
    given = []
    train = hashing.train_searcher
    monkeypatch.setattr(hashing, "train_searcher", lambda rows, *rest: given.append(rows.shape) or train(rows, *rest))
    searcher = write_hashes(tmp_path / "scann", file, 8, SETTINGS)
    assert given == [(200, DIMENSIONS)]
    found = searcher.candidates(np.load(file)[:40], 50, 8)
    assert (found == np.arange(40)[:, None]).any(axis=1).mean() > 0.9


def test_a_process_that_fails_gives_its_reason(file, tmp_path, monkeypatch):
    in_blocks(monkeypatch, COUNT)
    monkeypatch.setattr(hashing, "MODULE", "no_such_module")
    with pytest.raises(IndexWriteError, match=r"a process that hashes rows failed: .*No module named no_such_module"):
        write_hashes(tmp_path / "scann", file, 8, SETTINGS)


def test_searching_does_not_import_tensorflow(file, tmp_path):
    write_hashes(tmp_path / "scann", file, 0, SETTINGS)
    assert len(load_searcher(tmp_path / "scann", 0).candidates(np.load(file)[:2], 5, 1)) == 2
    code = (
        "import sys; from pathlib import Path; from keras_retrieval.export.folder_index.scann_searcher import *; "
        f"load_searcher(Path({str(tmp_path / 'scann')!r}), 0); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, env=clean_environment())
