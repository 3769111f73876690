"""Copies of folders at addresses: whole, unchanged afterwards, and made once."""

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.files import local_copy as module
from pipelines.files.durable import FolderError
from pipelines.files.local_copy import local_copy
from pipelines.files.remote import MissingFileError, RemoteFolder

fsspec = pytest.importorskip("fsspec")

from tests.helpers.faulty_storage import FaultyFileSystem, faulty_storage  # noqa: E402

FOLDER = RemoteFolder("faulty://bucket/index")
FILES = {"manifest.json": b"{}", "segment-1/rows.npy": b"rows", "segment-1/log": b"log"}
SUMS = {name: sha256(content).hexdigest() for name, content in FILES.items()}


@pytest.fixture
def faults(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    with faulty_storage(monkeypatch) as faults:
        for name, content in FILES.items():
            FOLDER.write(name, content)
        faults.requests.clear()
        yield faults


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


def test_a_copy_has_all_files_and_is_made_once(faults):
    faults.every = 3
    copy = local_copy(FOLDER, SUMS)
    assert content(copy) == FILES
    faults.every, before = 0, len(faults.requests)
    assert local_copy(FOLDER, SUMS) == copy
    assert len(faults.requests) == before


def test_a_changed_folder_gets_another_copy(faults):
    copy = local_copy(FOLDER, SUMS)
    FOLDER.write("segment-1/log", b"longer log")
    other = local_copy(FOLDER, SUMS | {"segment-1/log": sha256(b"longer log").hexdigest()})
    assert content(copy) == FILES
    assert content(other) == FILES | {"segment-1/log": b"longer log"}


def test_checksums_are_compared_and_nothing_is_left(faults, tmp_path):
    with pytest.raises(FolderError, match=r"faulty://bucket/index/manifest\.json has changed since it was written"):
        local_copy(FOLDER, SUMS | {"manifest.json": "0" * 64})
    assert sum(path.endswith("manifest.json") for _, path in faults.requests) == 3
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_bytes_that_are_lost_on_their_way_are_fetched_again(faults, monkeypatch):
    fetch, spoilt = FaultyFileSystem.get_file, set()

    def get_file(self, rpath, lpath, *args, **kwargs):
        fetch(self, rpath, lpath, *args, **kwargs)
        if rpath not in spoilt:
            spoilt.add(rpath)
            Path(lpath).write_bytes(b"")

    monkeypatch.setattr(FaultyFileSystem, "get_file", get_file)
    assert content(local_copy(FOLDER, SUMS)) == FILES
    assert len(spoilt) == 3


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(faults, name):
    with pytest.raises(FolderError, match="leads out of the folder"):
        local_copy(FOLDER, {name: ""})


def test_a_missing_file_leaves_nothing(faults, tmp_path):
    with pytest.raises(MissingFileError, match="faulty://bucket/index/gone does not exist"):
        local_copy(FOLDER, SUMS | {"gone": ""})
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_copies_that_are_not_used_are_removed(faults):
    old = local_copy(FOLDER, SUMS)
    os.utime(old, (time.time() - 1 - module.KEPT,) * 2)
    local_copy(FOLDER, {"segment-1/log": SUMS["segment-1/log"]})
    assert not old.exists()


def test_without_a_cache_folder_copies_are_temporary(faults, monkeypatch):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", "")
    assert content(local_copy(FOLDER, SUMS)) == FILES


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("segment-1/log", Path.unlink),
        ("segment-1/log", lambda path: path.write_bytes(b"lo")),
        ("manifest.json", lambda path: path.write_bytes(b"")),
        ("segment-1/rows.npy", lambda path: path.write_bytes(b"rows and more")),
        (".sizes.json", Path.unlink),
        (".sizes.json", lambda path: path.write_text("[")),
        (".sizes.json", lambda path: path.write_text("[1]")),
    ],
)
def test_a_copy_of_which_a_file_is_gone_or_cut_off_is_made_again(faults, name, spoil):
    copy = local_copy(FOLDER, SUMS)
    spoil(copy / name)
    assert local_copy(FOLDER, SUMS) == copy
    assert content(copy) == FILES


def test_a_cache_folder_that_cannot_be_written_is_told(faults, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ArgumentError, match=r"a copy of faulty://bucket/index .* KERAS_RETRIEVAL_CACHE names another"):
        local_copy(FOLDER, SUMS)
