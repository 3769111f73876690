"""Copies of folders at addresses: whole, unchanged afterwards, and made once."""

import os
import time

import pytest

from pipelines.files import local_copy as module
from pipelines.files.durable import FolderError
from pipelines.files.local_copy import local_copy, mirror
from pipelines.files.remote import MissingFileError, RemoteError, RemoteFolder

fsspec = pytest.importorskip("fsspec")

from tests.helpers.faulty_storage import FaultyFileSystem, faulty_storage  # noqa: E402

FOLDER = RemoteFolder("faulty://bucket/index")
FILES = {"manifest.json": b"{}", "segment-1/rows.npy": b"rows", "segment-1/log": b"log"}


@pytest.fixture
def faults(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    with faulty_storage(monkeypatch) as faults:
        for name, content in FILES.items():
            FOLDER.write(name, content)
        faults.requests.clear()
        yield faults


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != module.FILES
    }


def test_a_copy_has_all_files_and_is_made_once(faults):
    faults.every = 3
    copy = mirror(FOLDER)
    assert content(copy) == FILES
    faults.every, before = 0, faults.count("fetch")
    assert mirror(FOLDER) == copy
    assert faults.count("fetch") == before


def test_a_changed_folder_gets_another_copy_with_links_to_what_is_the_same(faults):
    copy = mirror(FOLDER)
    FOLDER.write("segment-1/log", b"longer log")
    faults.requests.clear()
    other = mirror(FOLDER)
    assert content(copy) == FILES
    assert content(other) == FILES | {"segment-1/log": b"longer log"}
    assert [path for request, path in faults.requests if request == "fetch"] == ["/bucket/index/segment-1/log"]


def test_a_folder_that_changes_while_it_is_copied_is_copied_again(faults):
    met, changes = faults.met, [b"second", b"third"]

    def change(request, path):
        met(request, path)
        if request == "fetch" and path.endswith("rows.npy") and changes:
            FOLDER.write("segment-1/log", changes.pop(0))

    faults.met = change
    assert content(mirror(FOLDER))["segment-1/log"] == b"third"
    changes += [b"a", b"bc", b"def"]
    FOLDER.write("segment-1/rows.npy", b"other rows")
    faults.met = lambda request, path: change(request, path.replace("manifest.json", "rows.npy"))
    FOLDER.write("manifest.json", b"{ }")
    with pytest.raises(RemoteError, match="faulty://bucket/index changes while it is copied: run the command again"):
        local_copy(FOLDER, FOLDER.files())
    assert len(list((module.cache_folder() / "copies").glob("*/.*"))) == 0  # nothing half is left


def test_checksums_are_compared(faults):
    with pytest.raises(FolderError, match=r"faulty://bucket/index/manifest\.json has changed since it was written"):
        local_copy(FOLDER, {"manifest.json": (None, "0" * 64)}, sums=True)
    assert faults.count("fetch") == 3


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(faults, name):
    with pytest.raises(FolderError, match="leads out of the folder"):
        local_copy(FOLDER, {name: (1, "")})


def test_a_missing_file_leaves_nothing(faults, tmp_path):
    with pytest.raises(MissingFileError, match="faulty://bucket/index/gone does not exist"):
        local_copy(FOLDER, FOLDER.files() | {"gone": (1, "")})
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_copies_that_are_not_used_are_removed(faults):
    old = mirror(FOLDER)
    os.utime(old, (time.time() - 1 - module.KEPT,) * 2)
    FOLDER.write("segment-1/log", b"new")
    mirror(FOLDER)
    assert not old.exists()


def test_without_a_cache_folder_copies_are_temporary(faults, monkeypatch):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", "")
    assert content(mirror(FOLDER)) == FILES
    assert FaultyFileSystem.store
