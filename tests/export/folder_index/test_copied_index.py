"""An index in a bucket, which servers search in a copy that follows it."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.remote import RemoteError, RemoteFolder

from export.folder_index import copied_index
from export.folder_index.copied_index import CopiedIndex, IndexCopy
from export.folder_index.folder_index import FolderIndex
from export.folder_index.following import Following
from export.folder_index.write_ahead_log import WriteAheadLog
from export.indexes.kinds import index_to_read
from export.indexes.open_index import follow_index
from keras_retrieval.errors import ArgumentError
from tests.helpers.deadlines import wait_until
from tests.helpers.small_index import clustered_rows, indexed

fsspec = pytest.importorskip("fsspec")

from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

from tests.helpers.faulty_storage import FaultyFileSystem, faulty_storage  # noqa: E402

ADDRESS = "faulty://bucket/index"
BUCKET = RemoteFolder(ADDRESS)
ROWS = clustered_rows(60)
SERVED = Following(steadfast=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return indexed(tmp_path_factory.mktemp("built"), ROWS)


@pytest.fixture
def storage(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    with faulty_storage(monkeypatch) as faults:
        monkeypatch.setattr(FaultyFileSystem, "info", info)
        yield faults


def info(self, path, **options):
    self.faults.met("info", path)
    return MemoryFileSystem.info(self, path, **options)


@pytest.fixture
def source(built, tmp_path, storage):
    """An index folder that is in the bucket."""
    folder = shutil.copytree(built, tmp_path / "source")
    send(folder)
    return folder


@pytest.fixture
def copy(source, tmp_path):
    return IndexCopy(ADDRESS, tmp_path / "copy")


def send(folder, *names):
    """Writes files, or all, to the bucket."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(".") and (not names or name in names):
            BUCKET.write(name, path.read_bytes())


def first(index, row):
    (hits,) = index.search(ROWS[row : row + 1], 1)
    return hits.names[0]


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


def test_builds_and_changes_arrive_one_after_the_other(source, copy, storage):
    storage.every = 4  # one request in four fails
    copy.update()
    index = FolderIndex(copy.folder, SERVED)
    assert content(copy.folder) == content(source)
    writer = FolderIndex(source)
    for row in range(3):
        writer.delete([f"{row}.jpg"])
        writer.add([f"new {row}"], ROWS[row : row + 1])
        send(source)
        copy.update()
        assert first(index, row) == f"new {row}"
        assert content(copy.folder) == content(source)
    writer.compact()
    writer.delete(["9.jpg"])
    send(source)
    copy.update()
    assert first(index, 9) != "9.jpg" or wait_until(lambda: first(index, 9) != "9.jpg", "the new build is loaded")
    assert index.state.build == "segment-000002"
    assert index.state.failures == 0
    requests = len(storage.requests)
    copy.update()
    assert {name for name, _ in storage.requests[requests:]} <= {"info"}  # nothing is read again
    assert len(index) == 59


@pytest.mark.parametrize("missing", ["rows.npy", "names.txt", "log", "head.json"])
def test_half_of_a_build_is_not_used(source, copy, missing):
    copy.update()
    before = content(copy.folder)
    writer = FolderIndex(source)
    writer.delete(["0.jpg"])
    writer.compact()
    send(source, "manifest.json", *(
        f"segment-000002/{path.name}" for path in (source / "segment-000002").iterdir() if path.name != missing
    ))  # fmt: skip
    for _ in range(2):
        with pytest.raises((OSError, FolderError), match=missing):
            copy.update()
        assert content(copy.folder) == before
    send(source)
    copy.update()
    assert first(FolderIndex(copy.folder), 0) != "0.jpg"
    assert [path.name for path in copy.folder.glob(".segment-*")] == []


def test_a_log_without_its_head_is_not_used(source, copy):
    copy.update()
    index = FolderIndex(copy.folder, SERVED)
    writer = FolderIndex(source)
    writer.delete(["0.jpg"])
    writer.delete(["1.jpg"])
    send(source, "segment-000001/head.json")
    with pytest.raises(FolderError, match="acknowledged changes"):
        copy.update()
    assert first(index, 0) == "0.jpg"
    send(source)
    copy.update()
    assert first(index, 1) != "1.jpg"


def test_altered_files_and_places_outside_are_refused(source, copy, tmp_path):
    rows = source / "segment-000001" / "rows.npy"
    BUCKET.write("segment-000001/rows.npy", rows.read_bytes()[:-1] + b"x")
    with pytest.raises(FolderError, match=r"rows.npy has changed since it was written"):
        copy.update()
    assert not (copy.folder / "manifest.json").exists()
    manifest = json.loads((source / "manifest.json").read_text())
    for name in ("../../evil", "/evil"):
        changed = {key: value for key, value in manifest.items() if key != "checksum"}
        changed["sha256"] = {name: "0"}
        from keras_retrieval.pipelines.files.durable import fingerprint

        changed["checksum"] = fingerprint(changed)
        BUCKET.write("manifest.json", json.dumps(changed).encode())
        with pytest.raises(FolderError, match="leads out of the folder"):
            copy.update()
    changed = {key: value for key, value in manifest.items() if key != "checksum"} | {"segment": "../segment-1"}
    changed["checksum"] = fingerprint(changed)
    BUCKET.write("manifest.json", json.dumps(changed).encode())
    with pytest.raises(FolderError, match="its segment is"):
        copy.update()
    assert not (tmp_path / "evil").exists()


def test_an_outage_leaves_the_copy_and_is_told(source, tmp_path, storage, monkeypatch):
    monkeypatch.setattr(copied_index, "PATIENCE", 0.1)
    index = CopiedIndex(ADDRESS, tmp_path / "copy", SERVED, seconds=0.01)
    assert (index.state.problem, len(index)) == ("", 60)
    storage.error, storage.outage = PermissionError("access denied"), (0.0, float("inf"))
    wait_until(lambda: "access denied" in index.state.problem, "the outage is told")
    assert first(index, 0) == "0.jpg"
    again = CopiedIndex(ADDRESS, tmp_path / "copy", SERVED, seconds=0.01)  # starts with the copy
    assert first(again, 0) == "0.jpg"
    again.close()
    storage.outage = (0.0, 0.0)
    wait_until(lambda: not index.state.problem, "the storage answers again")
    FolderIndex(source).delete(["0.jpg"])
    send(source)
    wait_until(lambda: first(index, 0) != "0.jpg", "the change arrives")
    index.close()


def test_a_storage_that_never_answered_is_an_error(source, tmp_path, storage):
    storage.error, storage.outage = PermissionError("access denied"), (0.0, float("inf"))
    with pytest.raises(RemoteError, match="access denied"):
        CopiedIndex(ADDRESS, tmp_path / "copy")
    storage.outage = (0.0, 0.0)
    with pytest.raises(FolderError, match=r"bucket/nothing has no manifest.json: it is not an index"):
        CopiedIndex("faulty://bucket/nothing", tmp_path / "other")


def test_processes_of_a_machine_share_a_copy(source, tmp_path, storage):
    one, other = (follow_index(ADDRESS, SERVED) for _ in range(2))
    assert one.folder == other.folder
    assert Path(os.environ["KERAS_RETRIEVAL_CACHE"]) in one.folder.parents
    fetched = [path for name, path in storage.requests if name == "fetch"]
    assert len(fetched) == len({*fetched}) + 1  # and the log, which may have grown
    for index in (one, other):
        assert first(index, 3) == "3.jpg"
        index.close()


def test_a_copy_is_not_changed(source, tmp_path):
    index = CopiedIndex(ADDRESS, tmp_path / "copy", SERVED)
    for change in (
        lambda: index.add(["new"], ROWS[:1]),
        lambda: index.delete(["0.jpg"]),
        lambda: index.add_columns({"year": "number"}),
        lambda: index.change_columns(["0.jpg"], {}),
        lambda: index.add_columns({"place": "text"}),
        index.compact,
    ):
        with pytest.raises(ArgumentError, match=r"faulty://bucket/index is searched in a copy .* cannot be changed"):
            change()
    np.testing.assert_array_equal(index.vectors(["4.jpg"]), ROWS[4:5])
    index.close()
    methods = {name: made for name, made in vars(FolderIndex).items() if callable(made) and not name.startswith("_")}
    writing = {name for name, made in methods.items() if {"_changing", "_write"} & {*made.__code__.co_names}}
    assert {"add", "compact"} < writing < vars(CopiedIndex).keys()  # a copy that was changed no longer follows


def test_only_a_folder_of_its_own_holds_a_copy(source, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").write_bytes(b"photo")
    with pytest.raises(FolderError, match="is not empty"):
        IndexCopy(ADDRESS, tmp_path / "full")
    with pytest.raises(FolderError, match="is a file"):
        IndexCopy(ADDRESS, tmp_path / "full" / "photo.jpg")
    IndexCopy(ADDRESS, tmp_path / "copy")
    IndexCopy(ADDRESS, tmp_path / "copy")
    with pytest.raises(FolderError, match="has the copy of another address"):
        IndexCopy("faulty://bucket/other", tmp_path / "copy")
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", "")
    folder = IndexCopy(ADDRESS).folder  # removed when the process ends
    assert folder.is_relative_to(tempfile.gettempdir())
    assert IndexCopy(ADDRESS).folder == folder
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "file"))
    with pytest.raises(FolderError, match=r"cannot hold the copy .*: name another folder with KERAS_RETRIEVAL_CACHE"):
        IndexCopy(ADDRESS)


def test_an_address_is_checked_before_anything_is_asked(storage):
    index_to_read("--index", ADDRESS)
    assert storage.requests == []
    with pytest.raises(ArgumentError, match=r"no storage of the kind nothing://"):
        index_to_read("--index", "nothing://bucket/index")


@pytest.mark.parametrize("name", ["calibration.json", "calibration-0123456789ab.json"])
def test_a_calibration_is_copied_with_the_index(source, copy, name, monkeypatch):
    monkeypatch.setattr(copied_index, "LISTED_EVERY", 0.0)
    copy.update()
    for text in ("{}", "[]"):
        (source / name).write_text(text)
        (source / "calibration-of-mine.json").write_text("{}")
        send(source)
        copy.update()
        assert (copy.folder / name).read_text() == text
    assert not (copy.folder / "calibration-of-mine.json").exists()
    BUCKET.remove([name])
    IndexCopy(ADDRESS, copy.folder).update()  # that of another process
    assert not (copy.folder / name).exists()


@pytest.mark.parametrize("damaged", ["rows.npy", "names.txt", "head.json"])
def test_a_damaged_copy_is_made_again(source, copy, damaged):
    copy.update()
    for damage in (Path.unlink, lambda path: path.write_bytes(b"{")):
        damage(copy.folder / "segment-000001" / damaged)
        index = CopiedIndex(ADDRESS, copy.folder, SERVED)
        assert (first(index, 3), index.state.problem) == ("3.jpg", "")
        index.close()
        assert content(copy.folder) == content(source)


def test_a_damaged_copy_is_an_error_while_the_storage_refuses(source, copy, storage):
    copy.update()
    (copy.folder / "segment-000001" / "rows.npy").unlink()
    storage.error, storage.outage = PermissionError("access denied"), (0.0, float("inf"))
    with pytest.raises(FolderError, match=r"rows.npy is missing.* a copy of faulty://bucket/index.* access denied"):
        CopiedIndex(ADDRESS, copy.folder, SERVED)


def test_a_running_copy_follows_an_index_that_was_restored_to_an_earlier_state(source, copy):
    FolderIndex(source).delete(["0.jpg"])
    send(source)
    copy.update()
    index = FolderIndex(copy.folder, SERVED)
    assert first(index, 0) != "0.jpg"
    WriteAheadLog(source / "segment-000001", index.facts["log"]).create()
    send(source)
    copy.update()
    wait_until(lambda: first(index, 0) == "0.jpg", "the earlier state is loaded")
    assert content(copy.folder) == content(source)


def test_the_mark_that_another_process_is_writing_does_not_make_a_folder_full(source, tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "..address.0123456789ab.writing").touch()
    IndexCopy(ADDRESS, tmp_path / "copy").update()
