"""The write-ahead log: acknowledged changes are read again, and missing or altered ones are an error."""

import errno
import os
from contextlib import contextmanager

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.space import DiskSpaceError

from export.folder_index.write_ahead_log import HEAD, LOG, Change, WriteAheadLog


def changes(count):
    rows = np.arange(6, dtype="float32").reshape(2, 3)
    return [Change([f"{number}\n日\udcff", "b"], rows + number, {"c": ["x", ""]}) for number in range(count)]


@pytest.fixture
def log(tmp_path):
    """A log of three additions and a deletion."""
    log = WriteAheadLog(tmp_path, "1")
    log.create()
    after = log.start
    for change in [*changes(3), Change(["b"], None, {})]:
        after = log.append(change, after)
    return log


def read(folder):
    log = WriteAheadLog(folder, "1")
    return log.read(log.start)


def test_changes_are_read_as_they_were_written(log, tmp_path):
    found = [change for change, _ in read(tmp_path)]
    assert [change.names for change in found] == [*(change.names for change in changes(3)), ["b"]]
    for change, expected in zip(found, changes(3), strict=False):
        np.testing.assert_array_equal(change.rows, expected.rows)
        assert change.columns == expected.columns
    assert found[3].rows is None


def test_a_reader_goes_on_from_where_it_was(log, tmp_path):
    places = [place for _, place in read(tmp_path)]
    assert [place.records for place in places] == [1, 2, 3, 4]
    assert [change.names for change, _ in log.read(places[2])] == [["b"]]
    assert log.read(places[3]) == []


def test_a_log_may_begin_with_changes(log, tmp_path):
    (tmp_path / "other").mkdir()
    other = WriteAheadLog(tmp_path / "other", "2")
    other.create(changes(2))
    after = other.append(Change(["b"], None, {}), other.read(other.start)[-1][1])
    assert [place for _, place in other.read(other.start)][-1] == after


def test_every_cut_of_what_was_acknowledged_is_told(log, tmp_path):
    whole = (tmp_path / LOG).read_bytes()
    ends = [place.bytes for _, place in read(tmp_path)]
    for length in {*range(0, len(whole), 7), *ends[:-1], len(whole) - 1}:
        (tmp_path / LOG).write_bytes(whole[:length])
        with pytest.raises(FolderError, match="acknowledged"):
            read(tmp_path)


def test_every_altered_byte_is_told(log, tmp_path):
    for name in (LOG, HEAD):
        whole = (tmp_path / name).read_bytes()
        for place in range(0, len(whole), 1 if name == HEAD else 5):
            (tmp_path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
            with pytest.raises(FolderError):
                read(tmp_path)
        (tmp_path / name).write_bytes(whole)
    assert len(read(tmp_path)) == 4


def test_half_a_record_that_nobody_acknowledged_is_dropped(log, tmp_path):
    head, before = (tmp_path / HEAD).read_bytes(), (tmp_path / LOG).read_bytes()
    last = read(tmp_path)[-1][1]
    log.append(changes(1)[0], last)
    whole = (tmp_path / LOG).read_bytes()
    (tmp_path / HEAD).write_bytes(head)
    for length in range(len(before), len(whole), 9):
        (tmp_path / LOG).write_bytes(whole[:length])
        assert len(read(tmp_path)) == 4
    log.append(Change(["c"], None, {}), last)
    assert [change.names for change, _ in read(tmp_path)][3:] == [["b"], ["c"]]


def test_a_whole_record_behind_the_head_is_taken_once(log, tmp_path):
    """Its writer was killed between the two files: the next reader and the next writer both use it."""
    head, last = (tmp_path / HEAD).read_bytes(), read(tmp_path)[-1][1]
    log.append(changes(1)[0], last)
    (tmp_path / HEAD).write_bytes(head)
    fifth = read(tmp_path)[-1][1]
    assert fifth.records == 5
    assert log.read(fifth) == []
    log.append(changes(1)[0], fifth)
    assert len(read(tmp_path)) == 6


def test_writers_that_are_killed_one_after_the_other_leave_one_record_behind_the_head(log, tmp_path, monkeypatch):
    @contextmanager
    def never_renamed(path):
        yield path.with_name("writing")

    monkeypatch.setattr("export.folder_index.write_ahead_log.atomic_path", never_renamed)
    for count in range(5, 8):
        log.append(changes(1)[0], read(tmp_path)[-1][1])
        assert len(read(tmp_path)) == count


def test_an_older_head_is_told(log, tmp_path):
    head, last = (tmp_path / HEAD).read_bytes(), read(tmp_path)[-1][1]
    for change in changes(2):
        last = log.append(change, last)
    (tmp_path / HEAD).write_bytes(head)
    with pytest.raises(FolderError, match=r"head.json is older than log"):
        read(tmp_path)


def test_the_log_of_another_index_is_told(log, tmp_path):
    with pytest.raises(FolderError, match="acknowledged"):
        WriteAheadLog(tmp_path, "2").read(WriteAheadLog(tmp_path, "2").start)


@pytest.mark.parametrize("name", [LOG, HEAD])
def test_a_missing_file_is_told(log, tmp_path, name):
    (tmp_path / name).unlink()
    with pytest.raises(FolderError, match=r"cannot be read|missing"):
        read(tmp_path)


@pytest.mark.parametrize("moment", ["export.folder_index.write_ahead_log.sync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_the_log_as_it_was(log, tmp_path, monkeypatch, moment):
    last = read(tmp_path)[-1][1]

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(moment, full)
    with pytest.raises(DiskSpaceError, match=r"log needs"):
        log.append(changes(1)[0], last)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(read(tmp_path)) == 4


def test_a_disk_that_fails_after_the_head_is_replaced_keeps_the_change(log, tmp_path, monkeypatch):
    def fail(folder):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("keras_retrieval.pipelines.files.durable._sync_folder", fail)
    with pytest.raises(OSError, match="output error"):
        log.append(changes(1)[0], read(tmp_path)[-1][1])
    assert len(read(tmp_path)) == 5


def test_changes_of_columns_are_read_again(log, tmp_path):
    change = Change(["a", "b"], None, {"c": ["x", ""]})
    log.append(change, read(tmp_path)[-1][1])
    found, _ = read(tmp_path)[-1]
    assert found == change
    assert found.on_columns
    assert not read(tmp_path)[-2][0].on_columns
    assert [Change([str(n) for n in range(count)], None, {"c": [""] * count}).cost for count in (1, 20, 21)] == [
        1,
        1,
        2,
    ]
