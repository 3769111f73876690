"""Checksums are kept for files that do not change, and for no others."""

import json
import os
import time

import pytest

from pipelines.files import checksums
from pipelines.files.checksums import FILE, Checksums
from pipelines.files.durable import sha256_of
from pipelines.files.remembered import read_remembered
from tests.helpers.clock import Clock


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a file that is old enough to be remembered, and of which each byte is worth remembering."""
    monkeypatch.setattr(checksums, "KEPT_FROM", 1)
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "time", Clock(time.time() + 3600))  # by which the file is an hour old
    (tmp_path / "of files" / "part").mkdir(parents=True)
    (tmp_path / "of files" / "part" / "rows").write_bytes(b"rows")
    return tmp_path / "of files"


@pytest.fixture
def reads(monkeypatch):
    """The files that were read."""
    found = []

    def read(path):
        found.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(checksums, "sha256_of", read)
    return found


def checksum(folder):
    known = Checksums(folder)
    digest = known.sha256(folder / "part" / "rows")
    known.keep()
    return digest


def refuse(*_):
    raise OSError(30, "Read-only file system")


@pytest.mark.parametrize("writable", [True, False])
def test_a_file_is_read_once(folder, reads, monkeypatch, writable):
    if not writable:
        monkeypatch.setattr(checksums, "write_file", refuse)
    digests = {checksum(folder) for _ in range(3)}
    assert digests == {sha256_of(folder / "part" / "rows")}
    assert reads == ["rows"]
    assert (folder / FILE).exists() is writable
    assert bool(read_remembered("checksums.json")) is not writable


def test_nothing_is_kept_where_nothing_can_be_written(folder, reads, monkeypatch):
    monkeypatch.setattr(checksums, "write_file", refuse)
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", "")
    checksum(folder)
    checksum(folder)
    assert reads == ["rows", "rows"]


def overwrite(path):
    """In place, with the same size and the modification time restored."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"ROWS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path):
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"ROWS")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [overwrite, replace, lambda path: path.write_bytes(b"more rows")])
def test_a_changed_file_is_read_again(folder, reads, change):
    path = folder / "part" / "rows"
    before = checksum(folder)
    time.sleep(0.02)  # more than the resolution of the file system's clock
    change(path)
    assert checksum(folder) == sha256_of(path) != before
    assert len(reads) == 2


def test_a_young_file_is_read_again(folder, reads, monkeypatch):
    """A change within the resolution of the file system's clock would not be noticed."""
    changed = (folder / "part" / "rows").stat().st_ctime
    monkeypatch.setattr(checksums, "time", Clock(changed + 1))
    checksum(folder)
    checksum(folder)
    assert reads == ["rows", "rows"]
    assert not (folder / FILE).exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"part/rows": 1}', '{"part/rows": [4, 0, 0, 0, "a"]}', "\xff", "[" * 10**5]
)
def test_damaged_checksums_are_forgotten(folder, reads, text):
    (folder / FILE).write_text(text, encoding="latin-1")
    assert checksum(folder) == sha256_of(folder / "part" / "rows")
    assert list(json.loads((folder / FILE).read_text())) == ["part/rows"]
    checksum(folder)
    assert reads == ["rows"]


def test_small_folders_are_read_again(folder, monkeypatch):
    monkeypatch.setattr(checksums, "KEPT_FROM", 100)
    checksum(folder)
    assert not (folder / FILE).exists()


def test_kept_checksums_are_not_used_if_they_are_not_trusted(folder, reads):
    digest = checksum(folder)
    (folder / FILE).write_text(json.dumps({"part/rows": [*checksums._state(folder / "part" / "rows"), "0"]}))
    assert checksum(folder) == "0"
    assert Checksums(folder, trusted=False).sha256(folder / "part" / "rows") == digest
    assert reads == ["rows", "rows"]
