"""A full disk: the error states the missing space and the file, nothing is left, and the old file is whole."""

import errno
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from keras_retrieval.pipelines.files.arrays import FileRows, save_array, save_blocks
from keras_retrieval.pipelines.files.durable import atomic_path, write_array, write_file
from keras_retrieval.pipelines.files.space import (
    DiskSpaceError,
    is_full_disk,
    naming_full_disk,
    require_space,
    size_text,
)

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def free(tmp_path, monkeypatch):
    """Sets how many bytes seem to be free on every disk."""
    usage = shutil.disk_usage(tmp_path)

    def set_free(size):
        monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=size))

    return set_free


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0.0 kB"), (1, "0.1 kB"), (4_096, "4.1 kB"), (10**6, "1.0 MB"), (3_210_000_001, "3.3 GB")]
)
def test_sizes_are_rounded_up(size, text):
    assert size_text(size) == text


def test_too_little_space_is_told_before(tmp_path, free):
    free(1_500_000)
    require_space(tmp_path / "new" / "folder", 1_400_000)
    with pytest.raises(
        DiskSpaceError, match=r"folder needs 3\.2 GB, and 1\.5 MB are free on its disk: free 3\.2 GB, or use another"
    ):
        require_space(tmp_path / "new" / "folder", 3_200_000_000)


def chained(first, second):
    second.__context__ = first
    return second


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (FULL, True),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), True),
        (RuntimeError("write failed: errno = 28, error message = 'No space left on device'"), True),
        (chained(FULL, ValueError("Can't close the ZIP file while there is an open writing handle on it.")), True),
        (OSError(errno.EIO, os.strerror(errno.EIO)), False),
        (ValueError("no space between words"), False),
    ],
)
def test_every_form_of_the_error_is_recognised(tmp_path, error, full):
    assert is_full_disk(error) is full
    with pytest.raises(DiskSpaceError if full else type(error)), naming_full_disk(tmp_path / "file", 10):
        raise error


def test_the_outer_block_that_knows_the_size_names_the_file(tmp_path, free):
    free(1_000)
    with (
        pytest.raises(DiskSpaceError, match=r"whole needs 9\.0 kB, and 1\.0 kB are free on its disk: free 8\.0 kB"),
        naming_full_disk(tmp_path / "whole", 9_000),
        naming_full_disk(tmp_path / "part", 5_000),
    ):
        raise FULL
    with (
        pytest.raises(DiskSpaceError, match=r"part needs 5\.0 kB"),
        naming_full_disk(tmp_path / "whole"),
        naming_full_disk(tmp_path / "part", 5_000),
    ):
        raise FULL


def test_a_quota_is_told(tmp_path):
    with (
        pytest.raises(DiskSpaceError, match=r"file needs 9\.0 kB, but your quota"),
        naming_full_disk(Path("file"), 9_000),
    ):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


@pytest.mark.parametrize("moment", ["write", "sync", "rename"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, free, moment):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file.npy"
    write_file(path, "old")
    free(100)
    if moment != "write":
        monkeypatch.setattr(*{"sync": ("os.fsync",), "rename": ("pathlib.Path.replace",)}[moment], full)

    def write():
        with atomic_path(path, size=8_000) as temporary:
            temporary.write_bytes(b"a part")
            full()

    with pytest.raises(DiskSpaceError, match=r"file\.npy needs 8\.0 kB, and 0\.1 kB are free"):
        write() if moment == "write" else write_array(path, np.zeros(1_000))
    assert [file.name for file in tmp_path.iterdir()] == ["file.npy"]
    assert path.read_text() == "old"


def test_arrays_are_written_without_a_mapping(tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 7)).astype("float32")
    save_array(tmp_path / "whole.npy", rows)
    save_blocks(tmp_path / "blocks.npy", np.array_split(rows, 4), rows.shape, "float32")
    assert (tmp_path / "whole.npy").read_bytes() == (tmp_path / "blocks.npy").read_bytes()
    with pytest.raises(ValueError, match=r"blocks\.npy: the blocks have 1,400 bytes, and the array 1,372"):
        save_blocks(tmp_path / "blocks.npy", [rows], (49, 7), "float32")
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        save_array(tmp_path / "objects.npy", np.array([{}], object))


def test_rows_of_a_file_are_written_at_their_places_and_read_at_once(tmp_path):
    with (tmp_path / "rows").open("w+b") as file:
        rows = FileRows(file, tmp_path, (3, 5), "f2")
        rows.write(np.array([2, 0]), np.arange(10, dtype="float32").reshape(2, 5))
        np.testing.assert_array_equal(rows.values, [[5, 6, 7, 8, 9], [0] * 5, [0, 1, 2, 3, 4]])
        assert not rows.values.flags.writeable
        more = FileRows(file, tmp_path, (6, 5), "f2")
        more.write(np.array([5]), np.ones((1, 5)))
        np.testing.assert_array_equal(more.values[[2, 5]], [[0, 1, 2, 3, 4], [1] * 5])


def test_no_file_is_written_through_a_mapping():
    """A write through a mapping to a full disk ends the process; `pipelines.files.arrays` writes files otherwise."""
    sources = [path for room in ("keras_retrieval", "pipelines", "export") for path in Path(room).rglob("*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in sources}
    assert len(texts) > 100
    writing = [
        path
        for path, text in texts.items()
        if any(word in text for word in ('"w+"', '"r+", shape', "mmap.ACCESS_WRITE", "posix_fallocate(file"))
    ]
    assert writing == []
    assert [path.name for path, text in texts.items() if "np.memmap(" in text] == ["arrays.py"]


def test_errors_in_a_zip_file_are_named(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    with (
        pytest.raises(DiskSpaceError, match=r"rows\.npz needs more than the"),
        atomic_path(tmp_path / "rows.npz") as file,
    ):
        np.savez(file, rows=np.zeros(10))
    assert list(tmp_path.iterdir()) == []
