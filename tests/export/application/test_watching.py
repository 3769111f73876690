"""Changes of a folder are noticed by the system's messages, or by looking where it sends none."""

import threading
import time

import pytest

from export.application import watching
from export.application.watching import FolderWatch


@pytest.fixture
def stopped():
    return threading.Event()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "photos"
    (path / "below").mkdir(parents=True)
    return path


@pytest.fixture
def slow(monkeypatch):
    """Without messages, no change would be noticed for longer than a test waits."""
    monkeypatch.setattr(watching, "RESCAN_SECONDS", 60.0)
    monkeypatch.setattr(watching, "QUIET_SECONDS", 0.05)


def noticed(watch, stopped, make):
    """Whether a change is noticed within ten seconds; it is repeated, since the watch needs a moment to begin."""
    done = threading.Event()

    def again():
        number = 0
        while not done.wait(0.2):
            make(number)
            number += 1

    threading.Thread(target=again, daemon=True).start()
    started = time.monotonic()
    watch.wait(0.0, stopped)
    done.set()
    return time.monotonic() - started < 10


def test_a_new_file_is_noticed(folder, stopped, slow):
    watch = FolderWatch(folder)
    assert noticed(watch, stopped, lambda number: (folder / "below" / f"{number}.jpg").write_bytes(b"x"))
    assert watch.reason == ""
    watch.stop()


def test_a_folder_in_place_of_the_old_one_is_watched(folder, stopped, slow):
    watch = FolderWatch(folder)
    folder.rename(folder.with_name("old"))
    watch.wait(0.0, stopped)  # returns at once, since the folder is gone
    folder.mkdir()
    watch.wait(0.0, stopped)  # and again, since it is there
    assert noticed(watch, stopped, lambda number: (folder / f"{number}.jpg").write_bytes(b"x"))
    watch.stop()


def test_where_the_system_sends_no_messages_the_folder_is_looked_at(folder, stopped, monkeypatch):
    def limited(*_):
        raise OSError("OS file watch limit reached.\nabout [..]")

    monkeypatch.setattr(watching, "messages", limited)
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.05)
    watch = FolderWatch(folder)
    watch.wait(0.0, stopped)  # which ends when the limit is known, or after the time between two looks
    watch.wait(0.0, stopped)
    assert "watch limit reached" in watch.reason
    assert "is looked at every" in watch.reason
    assert "\n" not in watch.reason


def test_a_wait_ends_with_the_program(folder, stopped):
    watch = FolderWatch(folder)
    stopped.set()
    watch.wait(0.0, stopped)
    stopped.clear()
    watch.notice()
    watch.wait(0.0, stopped)
    watch.stop()
