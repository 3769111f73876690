"""The index: exact where it says so, near enough where not, and no damaged folder or NaN ever reaches ScaNN.

`export` knows the tools of pipelines/ by their installed name, keras_retrieval.pipelines: so do these tests, since a
class of one name is not that of the other.
"""

import builtins
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from keras_retrieval.pipelines import descriptors as described
from keras_retrieval.pipelines.folders import (
    MANIFEST,
    FolderError,
    partial_of,
    read_manifest,
    seal,
    write_array,
    write_file,
    write_names,
)

from export.neighbour_index import open_index
from export.scann_index import KIND, checked_rows, index

pytest.importorskip("scann")

FACTS = {"model": {"name": "small"}, "photos": "/photos", "size": 64, "scales": [1.0]}
FACTS |= {"antialias": True, "bfloat16": False, "exif": True, "max_pixels": 1000, "fingerprint": "0"}


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("float32")


def random_rows(count, dimensions=8, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(count, dimensions)))


def descriptors(folder, rows, names=None):
    """A folder as `extract` writes it, of two shards."""
    partial = partial_of(folder)
    partial.mkdir(parents=True)
    for number, shard in enumerate(np.array_split(rows, min(2, len(rows)))):
        write_array(partial / f"descriptors-{number:05}.npy", shard)
    write_names(partial / "names.txt", names or [f"{row}.jpg" for row in range(len(rows))])
    write_file(partial / "left_out.json", "{}")
    return seal(partial, folder, kind=described.KIND, version=described.VERSION, count=len(rows), **FACTS)


def indexed(folder, rows, **options):
    return index(descriptors(folder / "descriptors", rows), folder / "index", **options)


def numbers(hits):
    """The row numbers that names like 7.jpg stand for, per query."""
    return [[int(name.removesuffix(".jpg")) for name in one.names] for one in hits]


def nearest(rows, queries, k):
    """Row numbers by sorting all products."""
    return np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 500])
def test_small_collections_are_searched_exactly(tmp_path, count):
    rows, queries = random_rows(count), random_rows(9, seed=1)
    searcher = open_index(indexed(tmp_path, rows))
    hits = searcher.search(queries, 10)
    expected = nearest(rows, queries, 10)
    assert searcher.facts["configuration"] == {"kind": "exact"}
    np.testing.assert_array_equal(numbers(hits), expected)
    for query in range(9):
        np.testing.assert_allclose(hits[query].scores, rows[expected[query]] @ queries[query], atol=1e-6)
        assert hits[query].scores.dtype == np.float32


@pytest.mark.parametrize("k", [1, 40, 41, 10_000])
def test_results_are_as_many_as_there_are_and_never_padded(tmp_path, k):
    rows = random_rows(40)
    for hits in open_index(indexed(tmp_path, rows)).search(rows[:3], k):
        assert len(hits.names) == len(hits.scores) == len(set(hits.names)) == min(k, 40)


@pytest.fixture(scope="module")
def clustered(tmp_path_factory):
    """20,500 rows around 500 centres, their index, and queries near the centres."""
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(500, 32))
    rows = unit(centres[chance.integers(0, 500, 20_500)] + 0.5 * chance.normal(size=(20_500, 32)))
    queries = unit(centres[:100] + 0.5 * chance.normal(size=(100, 32)))
    return rows, queries, indexed(tmp_path_factory.mktemp("clustered"), rows)


def test_a_large_collection_is_searched_by_a_tree_with_exact_scores(clustered):
    rows, queries, folder = clustered
    searcher = open_index(folder)
    assert searcher.facts["configuration"]["kind"].startswith("tree")
    hits = searcher.search(queries, 10)
    found, expected = numbers(hits), nearest(rows, queries, 10)
    recall = np.mean([len(set(found[query]) & set(expected[query])) / 10 for query in range(len(queries))])
    assert recall > 0.9
    for query in range(len(queries)):
        np.testing.assert_allclose(hits[query].scores, rows[found[query]] @ queries[query], atol=1e-5)
        assert (np.diff(hits[query].scores) <= 0).all()


def test_a_query_for_which_a_tree_finds_fewer_than_asked_for_is_searched_exactly(clustered):
    rows, queries, folder = clustered
    hits = open_index(folder).search(queries[:4], len(rows))
    np.testing.assert_array_equal(numbers(hits), nearest(rows, queries[:4], len(rows)))


def test_a_large_collection_is_searched_exactly_on_demand(clustered, tmp_path):
    rows, queries, folder = clustered
    for hits in (
        open_index(folder).search(queries, 10, exact=True),
        open_index(indexed(tmp_path, rows, exact=True)).search(queries, 10),
    ):
        np.testing.assert_array_equal(numbers(hits), nearest(rows, queries, 10))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named(tmp_path, bad):
    rows = random_rows(30)
    rows[4, 2] = rows[17, 0] = bad
    with pytest.raises(ValueError, match=r"2 descriptors are not finite, the first in rows \[4, 17\]"):
        indexed(tmp_path, rows)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (2, 2, 2), ()])
def test_arrays_of_no_rows_are_refused(shape):
    with pytest.raises(ValueError, match="an array"):
        checked_rows(np.zeros(shape))


def test_rows_reach_scann_as_whole_float32():
    rows = checked_rows(np.asfortranarray(np.ones((3, 4))))
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.ones((1, 8)), 0, "k is at least 1"),
        (np.ones((1, 8)), -1, "k is at least 1"),
        (np.ones((1, 7)), 3, "queries have 7 dimensions, the index 8"),
        (np.ones(8), 3, "an array"),
        (np.full((1, 8), np.nan), 3, "not finite"),
        (np.ones((0, 8)), 3, "an array"),
    ],
)
def test_queries_that_do_not_fit_are_refused(tmp_path, queries, k, message):
    searcher = open_index(indexed(tmp_path, random_rows(20)))
    with pytest.raises(ValueError, match=message):
        searcher.search(queries, k)


def test_a_moved_index_loads(tmp_path):
    rows = random_rows(50)
    folder = indexed(tmp_path / "here", rows)
    (tmp_path / "there").mkdir()
    moved = shutil.move(folder, tmp_path / "there" / "renamed index")
    shutil.rmtree(tmp_path / "here")
    hits = open_index(Path(moved)).search(rows, 1)
    np.testing.assert_array_equal(np.concatenate(numbers(hits)), np.arange(50))


def test_an_index_of_a_tree_loads_elsewhere(clustered, tmp_path):
    _, queries, folder = clustered
    moved = shutil.copytree(folder, tmp_path / "moved")
    for ours, theirs in zip(open_index(moved).search(queries, 5), open_index(folder).search(queries, 5), strict=True):
        assert ours.names == theirs.names
        np.testing.assert_array_equal(ours.scores, theirs.scores)


@pytest.mark.parametrize("size", ["exact", "tree"])
def test_every_damage_of_every_file_is_told_before_scann_sees_it(clustered, tmp_path, size, monkeypatch):
    folder = indexed(tmp_path, random_rows(60)) if size == "exact" else shutil.copytree(clustered[2], tmp_path / "i")
    monkeypatch.setattr("export.scann_index._scann", lambda: pytest.fail("ScaNN was asked"))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) >= 4
    for path in files:
        whole = path.read_bytes()
        damages = [b"", whole[:-1], whole + b"\0", whole[: len(whole) // 2], bytes([whole[0] ^ 1]) + whole[1:]]
        middle = len(whole) // 2
        damages.append(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        for damage in damages:
            if damage == whole or (path.name == MANIFEST and damage == whole[:-1]):
                continue  # half of an empty file; a manifest without its last line break says the same
            path.write_bytes(damage)
            with pytest.raises(FolderError):
                open_index(folder)
        path.unlink()
        with pytest.raises(FolderError):
            open_index(folder)
        path.write_bytes(whole)
    monkeypatch.undo()
    open_index(folder)


def test_an_index_of_a_newer_layout_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("export.scann_index.VERSION", 2)
    folder = indexed(tmp_path, random_rows(9))
    monkeypatch.undo()
    with pytest.raises(FolderError, match=r"layout 2 of ScaNN index.*pip install -U keras-retrieval"):
        open_index(folder)


def test_what_is_no_index_is_told(tmp_path):
    folder = descriptors(tmp_path / "descriptors", random_rows(9))
    with pytest.raises(FolderError, match="holds descriptors, not ScaNN index"):
        open_index(folder)
    with pytest.raises(FolderError, match=r"holds no manifest.json"):
        open_index(tmp_path)
    with pytest.raises(FolderError, match="holds ScaNN index, not descriptors"):
        index(index(folder, tmp_path / "index"), tmp_path / "another")


def test_nothing_in_an_index_is_a_pickle(clustered):
    for path in clustered[2].rglob("*"):
        if path.is_file():
            start = path.read_bytes()[:2]
            assert not (start[:1] == b"\x80" and start[1:2] <= b"\x05"), path
            if path.suffix == ".npy":
                assert np.load(path, allow_pickle=False).dtype != object


def test_an_index_is_replaced_only_on_demand_and_only_by_an_index(tmp_path):
    folder = indexed(tmp_path, random_rows(9))
    with pytest.raises(FolderError, match="exists already"):
        index(tmp_path / "descriptors", folder)
    other = descriptors(tmp_path / "other", random_rows(12))
    assert len(open_index(index(other, folder, replace=True)).names) == 12
    with pytest.raises(FolderError, match="will not be replaced"):
        index(other, tmp_path / "descriptors", replace=True)
    assert len(described.read_descriptors(tmp_path / "descriptors")[1]) == 9


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    left = partial_of(tmp_path / "index") / "scann" / "old.npy"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    folder = indexed(tmp_path, random_rows(9))
    assert not list(folder.rglob("old.npy"))
    assert "scann/old.npy" not in read_manifest(folder, kind=KIND, version=1)["sha256"]


def test_names_of_any_characters_are_kept(tmp_path):
    names = ["a b.jpg", "line\nbreak.jpg", "日本 \u2028.jpg"]
    folder = index(descriptors(tmp_path / "descriptors", random_rows(3), names), tmp_path / "index")
    assert open_index(folder).names == names


def test_neighbours_below_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--neighbours is at least 1, not 0"):
        indexed(tmp_path, random_rows(9), neighbours=0)


def test_absent_scann_is_answered_with_the_command(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name.split(".")[0] == "scann":
            raise ImportError("No module named 'scann'")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "keras-retrieval\[index\]"'):
        indexed(tmp_path, random_rows(9))


def test_the_manifest_is_plain_json(clustered):
    text = (clustered[2] / "manifest.json").read_text(encoding="ascii")
    assert json.loads(text)["kind"] == KIND
