"""An index that changes while it is searched: no write is lost, no search waits, and results equal naive numpy's."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.space import DiskSpaceError

from export.folder_index import folder_index, layout
from export.folder_index.layout import locked
from export.folder_index.write_ahead_log import _head_text
from export.index_contract.contract import Filter, parse_where
from export.indexes.index import index
from export.indexes.open_index import open_index
from tests.helpers import index_under_search, killed_index_writers
from tests.helpers.clock import Clock
from tests.helpers.small_index import HASHED, TREE, clustered_rows, descriptors, indexed, names_of, random_rows

pytest.importorskip("scann")

ROWS, QUERIES = clustered_rows(2_000), clustered_rows(30, seed=3)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folders of indexes over the same rows."""
    folder = tmp_path_factory.mktemp("built")
    table = folder / "table.csv"
    table.write_text("photo,parity,tenth\n" + "".join(f"{n}.jpg,{n % 2},{n % 10}\n" for n in range(2_000)))
    kinds = {"exact": {}, "hashed": HASHED, "tree": TREE}
    types = ["parity=text", "tenth=text"]
    return {
        kind: indexed(folder / kind, ROWS, columns=table, types=types, **options) for kind, options in kinds.items()
    }


@pytest.fixture(params=["exact", "hashed", "tree"])
def living(request, built, tmp_path):
    """A fresh copy of each kind of index."""
    return open_index(shutil.copytree(built[request.param], tmp_path / "index"))


def naive(content, queries, k):
    """Names of the k nearest rows in a dict of names and rows."""
    names, rows = list(content), np.stack(list(content.values()))
    order = np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :k]
    return [[names[row] for row in found] for found in order]


def check(index, content, least=0.9):
    """Checks that an index contains exactly this, finds it by exact search, and nearly all of it by the hashes."""
    assert sorted(index.names) == sorted(content)
    assert len(index) == len(content)
    expected = naive(content, QUERIES, 10)
    assert [hits.names for hits in index.search(QUERIES, 10, exact=True)] == expected
    found = index.search(QUERIES, 10)
    assert np.mean([len(set(hits.names) & set(true)) / 10 for hits, true in zip(found, expected, strict=True)]) > least
    for query, hits in zip(QUERIES, found, strict=True):
        np.testing.assert_allclose(hits.scores, [content[name] @ query for name in hits.names], atol=1e-6)
        assert len(hits.names) == 10


def test_photos_are_added_replaced_and_deleted(living):
    content = dict(zip(names_of(2_000), ROWS, strict=True))
    new = clustered_rows(60, seed=5)
    living.add(names_of(60, first=1_980), new)
    content |= zip(names_of(60, first=1_980), new, strict=True)
    check(living, content)
    assert living.delete([*names_of(40), "0.jpg", "unknown"]) == 40
    assert living.delete(["0.jpg", "2001.jpg"]) == 1
    for name in [*names_of(40), "2001.jpg"]:
        del content[name]
    check(living, content)
    living.add(["0.jpg", "2005.jpg"], new[:2])
    content |= {"0.jpg": new[0], "2005.jpg": new[1]}
    check(living, content)
    again = open_index(living.folder)
    check(again, content)
    assert again.names == living.names
    living.compact()
    check(living, content)
    again.search(QUERIES)
    again.close()
    check(again, content)
    check(open_index(living.folder), content)


def test_a_cluster_that_is_gone_does_not_hide_the_rest(living):
    """The hashes find only deleted neighbours of a query: the search looks further."""
    content = dict(zip(names_of(2_000), ROWS, strict=True))
    (near,) = naive(content, QUERIES[:1], 900)
    living.delete(near)
    (hits,) = living.search(QUERIES[:1], 10)
    assert len(hits.names) == 10
    assert not set(hits.names) & set(near)


def test_vectors_are_those_of_their_names(living):
    np.testing.assert_array_equal(living.vectors(), ROWS)
    living.add(["7.jpg", "new"], ROWS[:2])
    living.delete(["3.jpg"])
    np.testing.assert_array_equal(living.vectors(["new", "7.jpg", "8.jpg", "new"]), ROWS[[1, 0, 8, 1]])
    assert living.vectors([]).shape == (0, 32)
    assert len(living.vectors()) == 2_000
    np.testing.assert_array_equal(living.vectors(living.names), living.vectors())
    with pytest.raises(ValueError, match=r"no photo '3.jpg'"):
        living.vectors(["1.jpg", "3.jpg"])


def test_columns_are_those_of_their_names(living):
    assert living.columns() == {
        "parity": [str(row % 2) for row in range(2_000)],
        "tenth": [str(row % 10) for row in range(2_000)],
    }
    living.add(["7.jpg", "new"], ROWS[:2], {"parity": ["even", "odd"]})
    living.delete(["3.jpg"])
    assert living.columns(["new", "8.jpg", "7.jpg", "new"]) == {
        "parity": ["odd", "0", "even", "odd"],
        "tenth": ["", "8", "7", ""],
    }
    assert living.columns([]) == {"parity": [], "tenth": []}
    assert living.columns(living.names) == living.columns()
    with pytest.raises(ValueError, match=r"no photo '3.jpg'"):
        living.columns(["1.jpg", "3.jpg"])
    living.compact()
    assert living.columns(["new", "7.jpg"]) == {"parity": ["odd", "even"], "tenth": ["", "7"]}


def test_the_version_differs_after_each_change_of_any_process(living):
    other = open_index(living.folder)
    assert living.version == other.version
    versions = [other.version]
    for change in (lambda: living.add(["7.jpg"], ROWS[:1]), lambda: living.delete(["3.jpg"]), living.compact):
        change()
        other.search(QUERIES[:1])
        other.close()
        assert living.version == other.version
        versions.append(living.version)
    assert len({*versions}) == 4
    assert living.delete(["unknown"]) == 0
    assert living.version == versions[-1]


def test_rows_are_converted_as_the_index_stores_them(tmp_path):
    reduced = open_index(indexed(tmp_path, ROWS[:200], dim=6))
    rows = clustered_rows(5, seed=9)
    reduced.add(["new"], rows[:1])
    np.testing.assert_allclose(reduced.to_stored(rows[:1]), reduced.vectors(["new"]), atol=1e-6)
    np.testing.assert_array_equal(reduced.to_stored(reduced.vectors()), reduced.vectors())
    with pytest.raises(ValueError, match="rows have 7 dimensions"):
        reduced.to_stored(rows[:, :7])


def test_an_index_may_become_empty_and_fill_again(living):
    living.delete(names_of(2_000))
    for _ in range(2):
        assert len(living) == 0
        assert [hits.names for hits in living.search(QUERIES[:2], 5)] == [[], []]
        assert living.vectors().shape == (0, 32)
        living.compact()
    living.add(["a", "b"], ROWS[:2])
    assert living.search(ROWS[:1], 5)[0].names == ["a", "b"]
    living.compact()
    assert open_index(living.folder).search(ROWS[:1], 5)[0].names == ["a", "b"]


@pytest.mark.parametrize("name", ["line\nbreak", "https://host/a?b=c", "日本", "\udcff", "", '"'])
def test_any_text_is_a_name(built, tmp_path, name):
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    index.add([name], QUERIES[:1])
    for _ in range(2):
        index = open_index(tmp_path / "index")
        assert index.search(QUERIES[:1], 1)[0].names == [name]
        index.compact()
    assert index.delete([name]) == 1


@pytest.mark.parametrize(
    ("names", "rows", "columns", "message"),
    [
        (["a", "b", "a"], ROWS[:3], {}, "rows 0 and 2 have the same name: 'a'"),
        (["a", 1], ROWS[:2], {}, "row 1: a name must be a string, got 1"),
        (["a"], ROWS[:2], {}, "got 1 names and 2 rows"),
        (["a", "b"], np.where(np.arange(2)[:, None] == 1, np.nan, ROWS[:2]), {}, r"1 rows are not finite.*\[1\]"),
        (["a"], ROWS[:1, :31], {}, "rows have 31 dimensions, the index has 32"),
        (["a"], ROWS[0], {}, r"must be an array of shape \(n, dimensions\)"),
        (["a"], ROWS[:1], {"colour": ["red"]}, "no column 'colour'; its columns: parity, tenth"),
        (["a"], ROWS[:1], {"parity": ["1", "2"]}, "got 1 names and 2 values of 'parity'"),
        (["a", "b"], ROWS[:2], {"parity": ["1", 2]}, "row 1: a value of 'parity' must be a string, got 2"),
    ],
)
def test_what_cannot_be_added_is_refused_and_changes_nothing(built, names, rows, columns, message):
    index = open_index(built["exact"])
    with pytest.raises(ValueError, match=message):
        index.add(names, rows, columns)
    assert len(index) == len(open_index(built["exact"])) == 2_000


FILTERS = [
    Filter(["3.jpg", "4.jpg", "unknown"]),
    Filter([]),
    Filter(names_of(900, first=500)),
    Filter(columns={"parity": ["1"]}),
    Filter(columns={"tenth": ["3", "4", "none"], "parity": ["0"]}),
    Filter(names_of(30), {"tenth": ["5"]}),
    Filter(columns={"tenth": []}),
]


@pytest.mark.parametrize("where", FILTERS)
def test_a_filter_leaves_what_passes(living, where, monkeypatch):
    columns = {f"{n}.jpg": {"parity": str(n % 2), "tenth": str(n % 10)} for n in range(2_000)}
    content = dict(zip(names_of(2_000), ROWS, strict=True))
    new = clustered_rows(40, seed=6)
    names = names_of(40, first=1_980)
    living.add(names, new, {"parity": ["1"] * 40})
    living.delete(names_of(5))
    content |= zip(names, new, strict=True)
    columns |= {name: {"parity": "1", "tenth": columns.get(name, {"tenth": ""})["tenth"]} for name in names}
    passing = {
        name: row
        for name, row in content.items()
        if name not in names_of(5)
        and (where.names is None or name in where.names)
        and all(columns[name][column] in values for column, values in where.columns.items())
    }
    expected = naive(passing, QUERIES, 10) if passing else [[]] * len(QUERIES)
    assert [hits.names for hits in living.search(QUERIES, 10, where=where, exact=True)] == expected
    # So few pass that the answer is exact at any rate; then as if they were many.
    assert [hits.names for hits in living.search(QUERIES, 10, where=where)] == expected
    monkeypatch.setattr("export.folder_index.snapshot.EXACT_AMONG", 10)
    found = [hits.names for hits in living.search(QUERIES, 10, where=where)]
    assert [len(names) for names in found] == [len(names) for names in expected]
    assert all(set(names) <= set(passing) for names in found)
    right = sum(len(set(a) & set(b)) for a, b in zip(found, expected, strict=True))
    assert right >= 0.9 * sum(map(len, expected))


def test_columns_outlive_a_new_generation(built, tmp_path):
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    index.add(["1.jpg", "new"], QUERIES[:2], {"parity": ["none", "1"]})
    index.delete(["3.jpg"])
    before = index.search(QUERIES, 2_000, where=Filter(columns={"parity": ["1"]}))
    assert len(before[0].names) == 999
    index.compact()
    after = index.search(QUERIES, 2_000, where=Filter(columns={"parity": ["1"]}))
    assert [hits.names for hits in after] == [hits.names for hits in before]
    assert index.search(QUERIES, where=Filter(columns={"parity": ["none"], "tenth": ["1"]}))[0].names == ["1.jpg"]


def test_a_column_that_is_none_is_told(built):
    with pytest.raises(ValueError, match="no column 'city'; its columns: parity, tenth"):
        open_index(built["exact"]).search(QUERIES, where=Filter(columns={"city": ["Paris"]}))


@pytest.mark.parametrize("condition", [{"names": "a.jpg"}, {"columns": {"city": "Paris"}}])
def test_one_text_in_the_place_of_several_is_told(condition):
    with pytest.raises(ValueError, match=r"must be a collection of strings such as \['"):
        Filter(**condition)


def test_a_search_waits_for_no_lock(built, tmp_path):
    """A search returns, whatever locks writers and builders hold, here or in another process."""
    index = open_index(shutil.copytree(built["tree"], tmp_path / "index"))
    other = open_index(tmp_path / "index")
    other.add(["new"], QUERIES[:1])
    with index._changing, locked(index.folder, "writing"), locked(index.folder, "building"):
        assert index.search(QUERIES[:1], 1)[0].names != ["new"]
    assert index.search(QUERIES[:1], 1)[0].names == ["new"]


def test_what_is_added_beside_the_hashes_is_bounded(built, tmp_path, monkeypatch):
    """A search scores at most MAX_CHANGES added rows: beyond that, the writer waits for a new segment."""
    monkeypatch.setattr(folder_index, "MAX_CHANGES", 20)
    monkeypatch.setattr(folder_index.FolderIndex, "_compact_if_due", lambda self: None)
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    rows = clustered_rows(100, seed=9)
    for start in range(0, 50, 7):
        part = slice(start, start + 7)
        index.add([f"new {row}" for row in range(56)][part], rows[start : start + 7])
        assert len(index._mutable.snapshot.added) <= 20
    index.add([f"more {row}" for row in range(50)], rows[:50])
    assert len(index._mutable.snapshot.added) <= 20
    assert len(index) == 2_106
    assert int(index.facts["segment"].removeprefix("segment-")) > 5


def test_a_generation_is_built_in_time_beside_the_searches(built, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_index, "MAX_CHANGES", 20)
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    index.add([f"new {row}" for row in range(12)], ROWS[:12])
    index.close()
    assert index.facts["segment"] == "segment-000002"
    assert index._mutable.changes == 0
    assert segments(index.folder) == ["segment-000001", "segment-000002"]


def segments(folder):
    return sorted(path.name for path in folder.glob("segment-*"))


def test_the_old_files_stay_for_a_grace_period(built, tmp_path, monkeypatch):
    """Readers on other machines have them mapped; the first change after the period removes them."""
    now = 10**9
    monkeypatch.setattr(layout, "file_time", lambda folder: now)
    for module in (folder_index, layout):
        monkeypatch.setattr(module, "time", Clock())  # the clock of the machine, which may be wrong
    index = open_index(shutil.copytree(built["hashed"], tmp_path / "index"))
    reader = open_index(tmp_path / "index")
    index.delete(["1.jpg"])
    index.compact()
    monkeypatch.setattr(layout, "file_time", lambda folder: now + 30 * 60)
    index.delete(["2.jpg"])
    index.compact(grace=0)
    assert segments(tmp_path / "index") == ["segment-000001", "segment-000003"]
    monkeypatch.setattr(layout, "file_time", lambda folder: now + 61 * 60)
    assert len(open_index(tmp_path / "index")) == 1_998
    assert segments(tmp_path / "index") == ["segment-000001", "segment-000003"]
    (tmp_path / "index" / "segment-000009" / "scann").mkdir(parents=True)  # of a killed builder
    index.delete(["3.jpg"])
    assert segments(tmp_path / "index") == ["segment-000003"]
    assert (
        reader.search(QUERIES[:1], 1_999)[0].names == index.search(QUERIES[:1], 1_999)[0].names
    )  # waits for the new one
    again = open_index(tmp_path / "index")
    again.compact(grace=0.5)
    stays = json.loads((tmp_path / "index" / "manifest.json").read_text())["replaced"]
    assert stays == {"segment-000003": pytest.approx(now + 61 * 60 + 30)}


def test_a_rebuild_is_announced_and_its_failure_tried_again_later(built, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(folder_index, "MAX_CHANGES", 20)
    monkeypatch.setattr(folder_index, "RETRY_AFTER", 3)
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    monkeypatch.setattr(folder_index, "python_module", lambda module: [shutil.which("false")])
    with caplog.at_level("INFO", "keras_retrieval"):
        for number in range(14):
            index.add([f"new {number}"], ROWS[number : number + 1])
            if index._compaction:
                index._compaction.join()
    announced = [message for message in caplog.messages if "another process rebuilds the index" in message]
    assert [message.split(":")[1].split()[0] for message in announced] == ["11"]
    assert "was not rebuilt, and goes on with its old files: the process ended with status 1" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO", "keras_retrieval"):
        index.add(["more"], ROWS[:1])
        index.close()
    assert "15 changes since the last build" in caplog.text


def test_a_rebuild_says_what_it_does(built, tmp_path, caplog):
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    index.delete(["1.jpg"])
    with caplog.at_level("INFO", "keras_retrieval"):
        index.compact()
    assert "rebuilding the index from 1,999 photos; searches go on" in caplog.text
    assert "the files of the old one stay for 60 minutes" in caplog.text


def test_an_unfinished_rebuild_leaves_nothing(built, tmp_path, monkeypatch):
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    index.delete(["1.jpg"])
    before = sorted(tmp_path.rglob("*"))

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_index, "publish", full)
    with pytest.raises(DiskSpaceError, match="index needs"):
        index.compact()
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.undo()
    index.compact()
    assert len(open_index(tmp_path / "index")) == 1_999


def test_a_reader_of_a_change_that_was_taken_back_reads_the_index_again(built, tmp_path, monkeypatch):
    """The change was on disk for a moment, but its writer could not acknowledge it."""
    one = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    other = open_index(tmp_path / "index")
    position = one._mutable.position
    path = tmp_path / "index" / "segment-000001" / "log"
    other.add(["lost"], QUERIES[:1])
    assert "lost" in one.names
    os.truncate(path, position.bytes)
    (path.parent / "head.json").write_text(_head_text(position))
    third = open_index(tmp_path / "index")
    third.add(["kept"], QUERIES[1:2])
    assert "kept" in one.names
    assert "lost" not in one.names


def test_photos_keep_the_columns_that_a_change_does_not_state(living):
    living.add(["7.jpg", "new"], ROWS[:2])
    assert living.columns(["7.jpg", "new"]) == {"parity": ["1", ""], "tenth": ["7", ""]}
    living.add(["7.jpg"], ROWS[:1], {"parity": ["odd"]})
    assert open_index(living.folder).columns(["7.jpg"]) == {"parity": ["odd"], "tenth": ["7"]}


def test_columns_are_changed_without_descriptors(living):
    living.add(["new"], ROWS[:1])
    living.delete(["5.jpg"])
    before, version = living._snapshot(), living.version
    assert living.change_columns(["7.jpg", "5.jpg", "unknown", "new"], {"parity": ["a", "b", "c", "d"]}) == 2
    assert living.change_columns(["7.jpg"], {}) == 0
    assert living.version != version
    for place in (living, open_index(living.folder)):
        assert place.columns(["7.jpg", "new", "8.jpg"]) == {"parity": ["a", "d", "0"], "tenth": ["7", "", "8"]}
        found = place.search(ROWS[:1], 9, where=Filter(columns={"parity": ["a", "b", "c", "d"]}))[0].names
        assert sorted(found) == ["7.jpg", "new"]
    assert before.columns(np.array([7])) == {"parity": ["1"], "tenth": ["7"]}
    living.compact()
    assert open_index(living.folder).columns(["7.jpg"]) == {"parity": ["a"], "tenth": ["7"]}
    for names, columns, message in (
        (["a"], {"colour": ["red"]}, "no column 'colour'"),
        (["a"], {"parity": ["1", "2"]}, "got 1 names and 2 values of 'parity'"),
        (["a", "a"], {"parity": ["1", "2"]}, "rows 0 and 1 have the same name"),
        (["a"], {"parity": [1]}, "row 0: a value of 'parity' must be a string"),
    ):
        with pytest.raises(ValueError, match=message):
            living.change_columns(names, columns)


def test_columns_are_added_while_others_read_and_rebuild(built, tmp_path, monkeypatch):
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    other = open_index(tmp_path / "index")
    index.add(["new"], ROWS[:1])
    before = index._snapshot()
    real = folder_index.build_segment

    def while_building(*arguments):
        other.add_columns({"late": "number"})
        other.change_columns(["new", "5.jpg"], {"late": ["1", "2"]})
        return real(*arguments)

    index.add_columns({"early": "texts"})
    assert other.facts["columns"] == [*built_columns(before), "early"]
    monkeypatch.setattr(folder_index, "build_segment", while_building)
    index.compact()
    for place in (index, other, open_index(tmp_path / "index")):
        assert place.facts["column_types"] == {
            **before.facts.get("column_types", {}),
            "early": "texts",
            "late": "number",
        }
        assert place.columns(["new", "5.jpg", "6.jpg"])["late"] == ["1", "2", ""]
        assert place.search(ROWS[:1], 9, where=parse_where(["late >= 2"]))[0].names == ["5.jpg"]
    assert before.columns(np.array([5])).keys() == {*built_columns(before)}
    # The same column once more is no change; another type, a reserved or an empty name are refused.
    version = index.version
    index.add_columns({"late": "number"})
    assert index.version == version
    for types in ({"late": "text"}, {"photo": "text"}, {"": "text"}, {"x": "integer"}):
        with pytest.raises(ValueError, match=r"'late' as a number, not a text|cannot be named|must be one of"):
            index.add_columns(types)


def built_columns(snapshot):
    return list(snapshot.segment.facts["columns"])


def test_writes_while_a_generation_is_built_are_in_it(built, tmp_path, monkeypatch):
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    other = open_index(tmp_path / "index")
    real = folder_index.build_segment

    def building(*arguments):
        index.add(["meanwhile"], QUERIES[:1])
        other.add(["there"], QUERIES[1:2])
        other.delete(["5.jpg"])
        return real(*arguments)

    index.add(["before"], QUERIES[2:3])
    monkeypatch.setattr(folder_index, "build_segment", building)
    index.compact()
    other.search(QUERIES)
    other.close()
    for place in (index, other, open_index(tmp_path / "index")):
        assert [hits.names[0] for hits in place.search(QUERIES[:3], 1)] == ["meanwhile", "there", "before"]
        assert "5.jpg" not in place.names
        assert len(place) == 2_002


def test_processes_see_each_other(built, tmp_path):
    one = open_index(shutil.copytree(built["hashed"], tmp_path / "index"))
    other = open_index(tmp_path / "index")
    for number in range(6):
        (one, other)[number % 2].add([f"new {number}"], QUERIES[number : number + 1])
        for place in (one, other):
            assert place.search(QUERIES[number : number + 1], 1)[0].names == [f"new {number}"]
    one.compact()
    index(descriptors(tmp_path / "d", ROWS[:50]), tmp_path / "index", replace=True)
    other.add(["last"], QUERIES[:1])
    assert len(other) == 51
    one.search(QUERIES[:1])
    one.close()
    assert len(one) == 51


def test_another_writer_is_waited_for_and_then_told(built, tmp_path, monkeypatch):
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    monkeypatch.setattr(folder_index, "locked", lambda folder, action, wait=0.0: locked(folder, action, 0.05))
    with (
        locked(index.folder, "writing"),
        pytest.raises(TimeoutError, match="another process is writing to"),
    ):
        index.add(["new"], QUERIES[:1])
    assert "new" not in index.names
    index.add(["new"], QUERIES[:1])
    assert "new" in index.names


def test_damage_of_the_log_while_it_is_open_is_told(built, tmp_path):
    index = open_index(shutil.copytree(built["exact"], tmp_path / "index"))
    index.add(["new"], QUERIES[:1])
    (log,) = Path(index.folder).glob("segment-*/log")
    log.write_bytes(log.read_bytes()[:-1])
    with pytest.raises(FolderError, match="acknowledged"):
        open_index(tmp_path / "index")


def test_shortened_and_small_rows_live_on(tmp_path):
    index = open_index(indexed(tmp_path, ROWS, dim=24, rows="int8", **HASHED))
    new = clustered_rows(30, seed=8)
    index.add(names_of(30, first=3_000), new)
    index.add(["again"], index.vectors(["3005.jpg"]))
    kept = dict(zip(index.names, index.vectors(), strict=True))
    np.testing.assert_array_equal(kept["again"], kept["3005.jpg"])
    index.compact()
    np.testing.assert_allclose(index.vectors(list(kept)), np.stack(list(kept.values())), atol=1e-2)
    assert {"again", "3005.jpg"} == set(index.search(new[5:6], 2)[0].names)
    assert index.vectors().shape == (2_031, 24)


def test_searches_go_on_while_photos_come_and_go(tmp_path, monkeypatch):
    """`python -m tests.helpers.index_under_search` does many more."""
    monkeypatch.setattr(folder_index, "MAX_CHANGES", 60)
    monkeypatch.setattr(folder_index.FolderIndex, "_compact_if_due", lambda self: None)
    living, rebuilt = index_under_search.main(tmp_path, 100, photos=1_000, leaves=0, reorder=200)
    assert living >= rebuilt - 0.01


def test_killed_writers_lose_nothing(tmp_path):
    """`python -m tests.helpers.killed_index_writers` does many more."""
    assert sum(killed_index_writers.main(tmp_path, 6, seconds=0.2).values()) >= 5


def test_rows_of_another_width_than_the_stored_ones_are_told(tmp_path):
    index = open_index(indexed(tmp_path, random_rows(40, 8), dim=4))
    assert len(index.search(np.ones((1, 8)), 3)[0].names) == len(index.search(np.ones((1, 4)), 3)[0].names) == 3
    with pytest.raises(ValueError, match="have 5 dimensions, the index has 8"):
        index.search(np.ones((1, 5)), 3)


@pytest.mark.parametrize("kept", ["0" * 64, None, ["x"]])
def test_wrong_checksums_that_were_kept_are_not_taken_for_damage(built, tmp_path, kept):
    folder = shutil.copytree(built["exact"], tmp_path / "index")
    files = {path.relative_to(folder).as_posix(): path.stat() for path in (folder / "segment-000001").rglob("*")}
    entries = {
        name: [of.st_size, of.st_mtime_ns, of.st_ctime_ns, of.st_ino, kept] for name, of in files.items()
    }  # fmt: skip
    (folder / ".checksums.json").write_text(json.dumps(entries))
    assert len(open_index(folder)) == 2_000
    rows = folder / "segment-000001" / "rows.npy"
    rows.write_bytes(rows.read_bytes()[:-1] + b"x")
    with pytest.raises(FolderError, match=r"rows.npy has changed since it was written"):
        open_index(folder)
