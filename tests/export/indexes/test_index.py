"""The index folder: the recall is reached, and no damaged folder, pickle or NaN ever reaches ScaNN.

`export` imports pipelines/ by its installed name, keras_retrieval.pipelines, and so do these tests: under its name in
the checkout, the same module has other classes.
"""

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from keras_retrieval.pipelines.descriptors import folder as described
from keras_retrieval.pipelines.files.durable import MANIFEST, FolderError, partial_of

from export.folder_index.layout import KIND
from export.indexes.index import index
from export.indexes.open_index import open_index
from tests.helpers import index_faults
from tests.helpers.small_index import (
    HASHED,
    TREE,
    clustered_rows,
    descriptors,
    indexed,
    names_of,
    nearest,
    numbers,
    random_rows,
    recall,
)

pytest.importorskip("scann")

ROWS, QUERIES = clustered_rows(2_000), clustered_rows(60, seed=3)
MANY = clustered_rows(600, seed=3)  # ScaNN's training differs from run to run: a recall over 60 queries does, too


@pytest.fixture(scope="module")
def hashed(tmp_path_factory):
    """2,000 rows, hashed."""
    return indexed(tmp_path_factory.mktemp("hashed"), ROWS, **HASHED)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The same under a tree."""
    return indexed(tmp_path_factory.mktemp("tree"), ROWS, **TREE)


def configuration(folder):
    return json.loads((folder / MANIFEST).read_text())["configuration"]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 500])
def test_small_collections_are_searched_exactly(tmp_path, count):
    rows, queries = random_rows(count), random_rows(9, seed=1)
    searcher = open_index(indexed(tmp_path, rows))
    hits = searcher.search(queries, 10)
    expected = nearest(rows, queries, 10)
    assert searcher.facts["configuration"]["kind"] == "exact"
    np.testing.assert_array_equal(numbers(hits), expected)
    for query in range(9):
        np.testing.assert_allclose(hits[query].scores, rows[expected[query]] @ queries[query], atol=1e-6)
        assert hits[query].scores.dtype == np.float32


@pytest.mark.parametrize("kind", ["hashed", "tree"])
def test_the_recall_that_was_asked_for_holds_and_scores_are_exact(request, kind):
    folder = request.getfixturevalue(kind)
    hits = open_index(folder).search(MANY, 10)
    assert recall(hits, ROWS, MANY, 10) >= 0.93
    for query, hit in zip(MANY, hits, strict=True):
        np.testing.assert_allclose(hit.scores, ROWS[numbers([hit])[0]] @ query, atol=1e-6)
        assert (np.diff(hit.scores) <= 0).all()


def test_the_manifest_tells_what_was_measured(tree):
    how = configuration(tree)
    assert how["kind"] == "tree + asymmetric hashing + reordering"
    assert how["recall"] >= 0.93
    assert 1 <= how["leaves_to_search"] <= how["leaves"] == 20
    assert how["queries_per_second"] > 0
    size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file() and path.name != MANIFEST)
    assert how["bytes_per_photo"] == pytest.approx(size / 2_000, rel=0.01)
    # 32 numbers of 4 bytes, 16 codes of half a byte for each of two leaves, the leaves, the name
    assert 32 * 4 + 16 + 8 < how["bytes_per_photo"] < 32 * 4 + 16 + 8 + 60


def test_all_the_recall_there_is_may_be_asked_for(tmp_path):
    much = indexed(tmp_path, ROWS, **TREE, recall=1.0)
    assert configuration(much)["recall"] > 0.995
    assert recall(open_index(much).search(QUERIES, 10), ROWS, QUERIES, 10) > 0.99


@pytest.mark.parametrize("kind", ["hashed", "tree"])
@pytest.mark.parametrize("k", [1, 5, 120, 1_999, 2_000, 2_001, 10_000])
def test_results_are_as_many_as_there_are_and_never_padded(request, kind, k):
    searcher = open_index(request.getfixturevalue(kind))
    for hits in searcher.search(QUERIES[:3], k):
        assert len(hits.names) == len(hits.scores) == len(set(hits.names)) == min(k, 2_000)
    if k > 250:
        np.testing.assert_array_equal(numbers(searcher.search(QUERIES[:3], k)), nearest(ROWS, QUERIES[:3], k))


def test_one_query_finds_what_it_finds_among_others(hashed):
    searcher = open_index(hashed)
    together = searcher.search(QUERIES, 10)
    for query, hits in zip(QUERIES[:9], together, strict=False):
        assert searcher.search(query[None], 10)[0].names == hits.names


@pytest.mark.parametrize("options", [{}, {"exact": True}])
def test_everything_is_looked_at_on_demand(hashed, tmp_path, options):
    searchers = [open_index(hashed), open_index(indexed(tmp_path, ROWS, **HASHED, **options))]
    np.testing.assert_array_equal(numbers(searchers[0].search(QUERIES, 10, exact=True)), nearest(ROWS, QUERIES, 10))
    if options:
        np.testing.assert_array_equal(numbers(searchers[1].search(QUERIES, 10)), nearest(ROWS, QUERIES, 10))


@pytest.mark.parametrize(("form", "size", "error"), [("bfloat16", 2, 4e-3), ("int8", 1, 1e-2)])
@pytest.mark.parametrize("options", [{}, TREE])
def test_smaller_rows_are_scored_as_they_are_stored(tmp_path, form, size, error, options):
    searcher = open_index(indexed(tmp_path, ROWS, rows=form, **options))
    how, kept = searcher.facts["configuration"], searcher.vectors()
    assert how["bytes_per_photo"] < 32 * size + 90
    np.testing.assert_allclose(kept, ROWS, atol=error)
    hits = searcher.search(QUERIES, 10)
    assert how["recall"] == pytest.approx(recall(hits, ROWS, QUERIES, 10), abs=0.05)
    for query, hit in zip(QUERIES, hits, strict=True):
        np.testing.assert_allclose(hit.scores, kept[numbers([hit])[0]] @ query, atol=1e-6)


def test_descriptors_are_shortened_as_singular_vectors_do(tmp_path):
    """Rows of rank 10 in 32 dimensions keep all inner products when reduced to 10."""
    chance = np.random.default_rng(0)
    rows = (chance.normal(size=(600, 10)) @ chance.normal(size=(10, 32))).astype("f4")
    queries = rows[:20] + 0.1
    searcher = open_index(indexed(tmp_path / "a", rows, dim=10))
    assert searcher.vectors().shape == (600, 10)
    np.testing.assert_allclose(searcher.vectors() @ searcher.vectors().T, rows @ rows.T, atol=1e-3)
    np.testing.assert_array_equal(numbers(searcher.search(queries, 5)), nearest(rows, queries, 5))
    found = searcher.search(searcher.vectors(["3.jpg"]), 1)
    assert found[0].names == searcher.search(rows[3:4], 1)[0].names
    with pytest.raises(ValueError, match=r"--dim must be in 1\.\.32"):
        index(tmp_path / "a" / "descriptors", tmp_path / "b", dim=33)
    whole = open_index(index(tmp_path / "a" / "descriptors", tmp_path / "d", dim=32))
    np.testing.assert_array_equal(numbers(whole.search(queries, 5)), nearest(rows, queries, 5))
    short = open_index(index(tmp_path / "a" / "descriptors", tmp_path / "c", dim=4))
    assert short.facts["configuration"]["recall"] < 0.95


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_rows_that_are_not_finite_are_named(tmp_path, bad):
    rows = random_rows(30)
    rows[4, 2] = rows[17, 0] = bad
    with pytest.raises(ValueError, match=r"2 rows are not finite, the first are \[4, 17\]"):
        indexed(tmp_path, rows)
    assert not (tmp_path / "index").exists()


def test_names_that_are_there_twice_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"line 4: 'b' is also the name in line 2"):
        indexed(tmp_path, random_rows(4), ["a", "b", "c", "b"])


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.ones((1, 8)), 0, "k must be at least 1"),
        (np.ones((1, 8)), -1, "k must be at least 1"),
        (np.ones((1, 7)), 3, "queries have 7 dimensions, the index has 8"),
        (np.ones(8), 3, "must be an array"),
        (np.full((1, 8), np.nan), 3, "not finite"),
    ],
)
def test_queries_that_do_not_fit_are_refused(tmp_path, queries, k, message):
    searcher = open_index(indexed(tmp_path, random_rows(20)))
    with pytest.raises(ValueError, match=message):
        searcher.search(queries, k)
    assert searcher.search(np.empty((0, 8)), 3) == []


def test_a_moved_index_loads(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "here")
    (tmp_path / "there").mkdir()
    moved = Path(shutil.move(tmp_path / "here", tmp_path / "there" / "renamed index"))
    for ours, theirs in zip(open_index(moved).search(QUERIES), open_index(tree).search(QUERIES), strict=True):
        assert ours.names == theirs.names
        np.testing.assert_array_equal(ours.scores, theirs.scores)


@pytest.mark.parametrize("kind", ["exact", "tree"])
def test_every_damage_of_every_file_is_told_before_scann_sees_it(tree, tmp_path, kind, monkeypatch):
    folder = indexed(tmp_path, random_rows(60)) if kind == "exact" else Path(shutil.copytree(tree, tmp_path / "i"))
    monkeypatch.setattr("export.folder_index.scann_searcher.load_scann", lambda: pytest.fail("ScaNN was asked"))
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    assert len(files) >= 5
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        damages = [b"", whole[:-1], whole + b"\0", whole[:middle], bytes([whole[0] ^ 1]) + whole[1:]] if whole else []
        damages += [whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]] if whole else []
        if path.name == MANIFEST:
            damages.remove(whole[:-1])  # without its last line break it says the same
        for damage in damages:
            path.write_bytes(damage)
            with pytest.raises(FolderError):
                open_index(folder)
        path.unlink()
        with pytest.raises(FolderError):
            open_index(folder)
        path.write_bytes(whole)
    monkeypatch.undo()
    open_index(folder)


def test_damages_at_random_are_refused_or_change_nothing(tmp_path):
    """In processes of their own; `python -m tests.helpers.index_faults` does many more."""
    outcomes = index_faults.main(tmp_path, 6)
    assert sum(outcomes.values()) == 6


def test_files_of_two_indexes_do_not_mix(tree, tmp_path):
    one = Path(shutil.copytree(tree, tmp_path / "one"))
    other = indexed(tmp_path, ROWS[::-1].copy(), **TREE)
    for part in ("rows.npy", "scann/hashed_dataset.npy", "log", "head.json"):
        (path,) = one.glob(f"segment-*/{part}")
        whole = path.read_bytes()
        path.write_bytes(next(other.glob(f"segment-*/{part}")).read_bytes())
        if path.read_bytes() != whole:
            with pytest.raises(FolderError):
                open_index(one)
        path.write_bytes(whole)


def test_no_pickle_is_written_or_read(tree, tmp_path):
    for path in tree.rglob("*"):
        if path.is_file():
            start = path.read_bytes()[:2]
            assert not (start[:1] == b"\x80" and start[1:2] <= b"\x05"), path
            if path.suffix == ".npy":
                assert np.load(path, allow_pickle=False).dtype != object
    folder = Path(shutil.copytree(tree, tmp_path / "i"))
    (scann,) = folder.glob("segment-*/scann")

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (scann / "scann_docids.pkl").write_bytes(pickle.dumps(Trap()))
    assert open_index(folder).search(QUERIES, 3)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("version", "message"),
    [(5, r"layout 5 of ScaNN index.*pip install -U"), (2, "layout 2, which is no longer supported: index again")],
)
def test_an_index_of_another_layout_is_refused(tmp_path, monkeypatch, version, message):
    monkeypatch.setattr("export.folder_index.layout.PHOTOS_VERSION", version)
    folder = indexed(tmp_path, random_rows(9))
    monkeypatch.undo()
    with pytest.raises(FolderError, match=message):
        open_index(folder)


def test_what_is_no_index_is_told(tmp_path):
    folder = descriptors(tmp_path / "descriptors", random_rows(9))
    with pytest.raises(FolderError, match="contains descriptors, not ScaNN index"):
        open_index(folder)
    with pytest.raises(FolderError, match=r"does not contain manifest.json: it is not a folder of ScaNN index"):
        open_index(tmp_path)
    with pytest.raises(FolderError, match="missing does not exist"):
        open_index(tmp_path / "missing")
    with pytest.raises(FolderError, match="missing does not exist"):
        index(tmp_path / "missing", tmp_path / "another")
    with pytest.raises(FolderError, match=r"names.txt is a file, not a folder"):
        open_index(folder / "names.txt")
    with pytest.raises(FolderError, match="contains ScaNN index, not descriptors"):
        index(index(folder, tmp_path / "index"), tmp_path / "another")


def test_an_index_is_replaced_only_on_demand_and_only_by_an_index(tmp_path):
    folder = indexed(tmp_path, random_rows(9))
    searcher = open_index(folder)
    searcher.delete(["0.jpg"])
    with pytest.raises(FolderError, match="exists already"):
        index(tmp_path / "descriptors", folder)
    other = descriptors(tmp_path / "other", random_rows(12))
    assert len(open_index(index(other, folder, replace=True))) == 12
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["segment-000001", "segment-000002"]
    with pytest.raises(FolderError, match="will not be replaced"):
        index(other, tmp_path / "descriptors", replace=True)
    assert len(described.read_descriptors(tmp_path / "descriptors")[1]) == 9
    (folder / "segment-000002" / "names.txt").write_text("damaged")
    assert len(open_index(index(other, folder, replace=True))) == 12


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    left = partial_of(tmp_path / "index") / "segment-000001" / "rows.npy"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    folder = indexed(tmp_path, random_rows(9))
    assert not partial_of(folder).exists()
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["segment-000002"]
    assert len(open_index(folder)) == 9


def test_names_of_any_characters_are_kept(tmp_path):
    names = ["a b.jpg", "line\nbreak.jpg", "日本 \u2028.jpg", "https://host/p?q=1#x", "\udcff.jpg", ""]
    folder = indexed(tmp_path, random_rows(6), names)
    searcher = open_index(folder)
    assert searcher.names == names
    assert searcher.search(random_rows(6), 1)[4].names == ["\udcff.jpg"]


def test_an_index_is_read_where_nothing_can_be_written(tmp_path):
    folder = indexed(tmp_path, random_rows(9))
    places = [folder, *folder.rglob("*")]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    try:
        assert len(open_index(folder).search(random_rows(2), 3)) == 2
    finally:
        for place in places:
            place.chmod(0o755 if place.is_dir() else 0o644)


def test_absent_scann_is_answered_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(ImportError, match=r'pip install "keras-retrieval\[index\]"'):
        indexed(tmp_path, random_rows(900), **HASHED)
    assert index(descriptors(tmp_path / "few", random_rows(9)), tmp_path / "exact")


def test_the_manifest_is_plain_json(tree):
    text = (tree / MANIFEST).read_text(encoding="ascii")
    said = json.loads(text)
    assert said["kind"] == KIND
    assert said["count"] == 2_000
    assert all(len(digest) == 64 for digest in said["sha256"].values())
    assert len(names_of(2_000)) == said["count"]


@pytest.mark.parametrize(
    "options", [{"soar": 0.0}, {"threshold": 0.0}, {"block": 3}, {"lookup": "lut256", "iterations": 3, "sample": 500}]
)
def test_every_way_of_hashing_reaches_the_recall(tmp_path, options):
    folder = indexed(tmp_path, ROWS, **TREE, **options)
    used = configuration(folder)["settings"]
    assert {option: used[option] for option in options} == options
    assert recall(open_index(folder).search(MANY, 10), ROWS, MANY, 10) >= 0.93
