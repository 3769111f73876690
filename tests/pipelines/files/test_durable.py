"""Folders appear complete or not at all, are checked when read, and files of others are never removed."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.files import durable as folders
from pipelines.files.durable import (
    MANIFEST,
    FolderError,
    atomic_path,
    check_free,
    check_outside,
    fingerprint,
    partial_of,
    read_manifest,
    read_names,
    seal,
    write_array,
    write_file,
    write_names,
)

NAMES = ["a.jpg", "deep/b c.jpg", "line\nbreak.jpg", "日本 \u2028 é.jpg", '"\\.jpg', ""]


def made(folder, kind="thing", version=1, replace=False, **facts):
    """A sealed folder of one file in a folder."""
    partial = partial_of(folder)
    (partial / "deep").mkdir(parents=True)
    write_file(partial / "deep" / "file", "content")
    return seal(partial, folder, kind=kind, version=version, replace=replace, **facts)


def test_a_sealed_folder_says_what_it_is(tmp_path):
    folder = made(tmp_path / "out", count=3, scales=[1.0, 0.7071], photos="/some/\udcff\nplace")
    manifest = read_manifest(folder, kind="thing", version=1, verify=True)
    assert (manifest["kind"], manifest["version"], manifest["count"]) == ("thing", 1, 3)
    assert manifest["scales"] == [1.0, 0.7071]
    assert manifest["photos"] == "/some/\udcff\nplace"
    assert list(manifest["sha256"]) == ["deep/file"]
    assert not partial_of(folder).exists()


def test_notes_of_unfinished_work_are_gone_from_a_sealed_folder(tmp_path):
    partial = partial_of(tmp_path / "out")
    partial.mkdir()
    write_file(partial / ".note.json", "{}")
    (partial / ".file.writing").write_bytes(b"killed while writing")
    write_file(partial / "file", "content")
    folder = seal(partial, tmp_path / "out", kind="thing", version=1)
    assert sorted(path.name for path in folder.iterdir()) == ["file", MANIFEST]
    assert list(read_manifest(folder, kind="thing", version=1)["sha256"]) == ["file"]


@pytest.mark.parametrize("moment", ["_sync_file", "sha256_of"])
def test_a_kill_while_sealing_leaves_no_folder(tmp_path, monkeypatch, moment):
    def stop(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folders, moment, stop)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(FolderError, match="partial is unfinished: run its step again"):
        read_manifest(tmp_path / "out", kind="thing", version=1)
    seal(partial_of(tmp_path / "out"), tmp_path / "out", kind="thing", version=1)
    read_manifest(tmp_path / "out", kind="thing", version=1, verify=True)


def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    write_file(tmp_path / "file", "old")

    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "file", "new")
    with pytest.raises(KeyboardInterrupt):
        write_array(tmp_path / "file", np.zeros(3))
    assert (tmp_path / "file").read_text() == "old"


def test_replacing_takes_the_old_folder_away_and_nothing_else(tmp_path):
    made(tmp_path / "out", count=1)
    backup = tmp_path / "out.old"
    backup.mkdir()
    (backup / "mine").write_text("mine")
    with pytest.raises(FolderError, match="exists already"):
        made(tmp_path / "out", count=2)
    folder = seal(partial_of(tmp_path / "out"), tmp_path / "out", kind="thing", version=1, replace=True, count=2)
    assert read_manifest(folder, kind="thing", version=1)["count"] == 2
    assert (backup / "mine").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.old"]


@pytest.mark.parametrize("content", ["photos", "another kind", "damaged", "file"])
def test_what_is_of_another_kind_is_not_replaced(tmp_path, content):
    folder = tmp_path / "out"
    if content == "photos":
        folder.mkdir()
        (folder / "a.jpg").write_text("")
    elif content == "file":
        folder.write_text("")
    else:
        made(folder, kind="other")
    if content == "damaged":
        (folder / MANIFEST).write_text("{")
    with pytest.raises(FolderError, match="not a folder of thing and will not be replaced"):
        check_free(folder, kind="thing", replace=True)
    with pytest.raises(FolderError, match="will not be replaced"):
        made(folder, replace=True)
    assert folder.exists()


def test_what_is_free_is_free(tmp_path):
    check_free(tmp_path / "new", kind="thing", replace=False)
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty", kind="thing", replace=True)
    with pytest.raises(FolderError, match="exists already"):
        check_free(tmp_path / "empty", kind="thing", replace=False)
    check_free(made(tmp_path / "out"), kind="thing", replace=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b"null", "damaged"),
        (b'{"kind": "thing"}', "damaged"),
        (b'{"kind": "thing", "version": null, "sha256": {}}', "damaged"),
        (b'{"kind": "thing", "version": 1, "sha256": [1]}', "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"kind": "other", "version": 1, "sha256": {}}', "contains other, not thing"),
        (b'{"kind": "thing", "version": 2, "sha256": {}}', "reads up to 1: update with pip install -U keras-retrieval"),
        (b'{"kind": "thing", "version": 1, "sha256": {}}', "has changed"),
        (b'{"kind": "thing", "version": 1, "sha256": {}, "count": 4, "checksum": "0"}', "has changed"),
    ],
)
def test_a_broken_manifest_is_told(tmp_path, content, message):
    folder = made(tmp_path / "out")
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(FolderError, match=message):
        read_manifest(folder, kind="thing", version=1)


def test_every_changed_number_of_a_manifest_is_noticed(tmp_path):
    folder = made(tmp_path / "out", count=3, dimensions=512)
    text = (folder / MANIFEST).read_text()
    for old, new in (('"count": 3', '"count": 4'), ('"dimensions": 512', '"dimensions": 513'), ("file", "life")):
        (folder / MANIFEST).write_text(text.replace(old, new))
        with pytest.raises(FolderError, match="has changed since it was written"):
            read_manifest(folder, kind="thing", version=1)


def test_changed_and_missing_files_are_noticed(tmp_path):
    folder = made(tmp_path / "out")
    (folder / "deep" / "file").write_text("Content")
    read_manifest(folder, kind="thing", version=1)
    with pytest.raises(FolderError, match="deep/file has changed"):
        read_manifest(folder, kind="thing", version=1, verify=True)
    (folder / "deep" / "file").unlink()
    with pytest.raises(FolderError, match="deep/file is missing"):
        read_manifest(folder, kind="thing", version=1)


def test_what_is_no_folder_is_told(tmp_path):
    with pytest.raises(FolderError, match=r"does not contain manifest.json: it is not a folder of thing"):
        read_manifest(tmp_path, kind="thing", version=1)
    with pytest.raises(FolderError, match=r"^/nowhere does not exist$"):
        read_manifest(Path("/nowhere"), kind="thing", version=1)
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="file is a file, not a folder"):
        read_manifest(tmp_path / "file", kind="thing", version=1)


def test_a_folder_inside_the_photos_is_refused(tmp_path):
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for inside in ("photos", "photos/new", "photos/deep/../new", "photos/deep/new"):
        with pytest.raises(FolderError, match="would be taken for photos: name another folder"):
            check_outside(tmp_path / inside, tmp_path / "photos")
    for outside in ("new", "photos-new", "photos/../new", ""):
        check_outside(tmp_path / outside, tmp_path / "photos")


@pytest.mark.parametrize("sync", [True, False])
def test_a_path_is_renamed_only_when_its_file_is_written(tmp_path, sync):
    path = tmp_path / "a.txt"
    with atomic_path(path, sync=sync) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("old")

    def fail():
        with atomic_path(path, sync=sync) as temporary:
            temporary.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_of_any_characters_come_back(tmp_path):
    write_names(tmp_path / "names.txt", NAMES)
    assert read_names(tmp_path / "names.txt") == NAMES
    assert (tmp_path / "names.txt").read_text(encoding="utf-8").count("\n") == len(NAMES)
    write_names(tmp_path / "none.txt", [])
    assert read_names(tmp_path / "none.txt") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"a"\nb.jpg\n', "line 2: not a name"),
        (b'"a"\n3\n', "line 2: not a name"),
        (b'"a"\n\n', "line 2: not a name"),
        (b'"a"\n"b"\n"a"\n', r"names\.txt, line 3: 'a' is also the name in line 1: make the folder again"),
        (b"\xff\xff\n", "is damaged"),
    ],
)
def test_broken_names_are_told(tmp_path, content, message):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(FolderError, match=message):
        read_names(tmp_path / "names.txt")


def test_only_successive_lines_of_crops_have_one_name(tmp_path):
    path = tmp_path / "names.txt"
    write_names(path, ["a", "a", "b", "c", "c", "c"])
    assert read_names(path, runs=True) == ["a", "a", "b", "c", "c", "c"]
    with pytest.raises(FolderError, match=r"line 2: 'a' is also the name in line 1"):
        read_names(path)
    write_names(path, ["a", "b", "b", "a"])
    with pytest.raises(FolderError, match=r"line 4: 'a' is also the name in line 1"):
        read_names(path, runs=True)


def test_fingerprints_tell_parts_apart():
    assert fingerprint(1, "a", {"b": 2, "c": [3]}) == fingerprint(1, "a", {"c": [3], "b": 2})
    others = [fingerprint(*parts) for parts in ((1, 2), (2, 1), ([1, 2],), ("1", 2), (1, 2.5), (12,), ("\udcff",))]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_fsync_works(tmp_path, monkeypatch, number):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", refuse)
    folder = made(tmp_path / "out", count=1)
    assert read_manifest(folder, kind="thing", version=1, verify=True)["count"] == 1


def test_a_file_system_that_opens_no_folder_works(tmp_path, monkeypatch):
    opened = os.open

    def refuse(path, *args, **kwargs):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr("os.open", refuse)
    read_manifest(made(tmp_path / "out"), kind="thing", version=1, verify=True)


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_a_disk_that_fails_is_an_error_with_the_path(tmp_path, monkeypatch, number):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    write_file(tmp_path / "file", "old")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match=rf"\[Errno {number}\] .*: '.*file"):
        write_file(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("name", [".", ".."])
def test_a_folder_without_a_name_of_its_own_is_not_written(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FolderError, match="name a new folder"):
        partial_of(Path(name))
    with pytest.raises(FolderError, match=r"does not contain manifest.json: it is not a folder of descriptors$"):
        read_manifest(Path(name), kind="descriptors", version=1)
