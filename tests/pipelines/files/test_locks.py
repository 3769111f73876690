"""Locks between processes, also on file systems that offer none."""

import errno
import fcntl
import os

import pytest

from pipelines.files.locks import lock


def test_one_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with path.open("a") as first, path.open("a") as second:
        lock(first.fileno(), wait=False)
        with pytest.raises(BlockingIOError):
            lock(second.fileno(), wait=False)
        first.close()
        lock(second.fileno(), wait=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_without_locks_works_and_is_told(tmp_path, monkeypatch, caplog, number):
    def refuse(descriptor, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / "lock").open("a") as file:
        lock(file.fileno(), wait=False)
    assert "offers no locks" in caplog.text


def test_another_error_is_an_error(tmp_path, monkeypatch):
    def fail(descriptor, how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with (tmp_path / "lock").open("a") as file, pytest.raises(OSError, match="Input/output error"):
        lock(file.fileno(), wait=True)
