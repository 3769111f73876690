"""Progress: one line per minute without a terminal, a bar on a terminal."""

import io
import json
import sys

import pytest

from pipelines.files import progress as module
from pipelines.files.progress import note_progress, progress, status_line
from tests.helpers.clock import Clock


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_plain_line_per_minute(clock, capsys):
    with progress("extract", 1200) as advance:
        for _ in range(60):
            clock.now += 5
            advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "extract: 120 of 1,200 photos, 2.0/s, 9 min left"
    assert lines[-1] == "extract: 600 of 1,200 photos, 2.0/s, 5 min left"
    assert len(lines) == 5


def test_short_work_prints_nothing(clock, capsys):
    with progress("extract", 0) as advance:
        advance(0)
    with progress("extract", 5, "rows") as advance:
        clock.now += 59
        advance(5)
    assert capsys.readouterr() == ("", "")


def test_nothing_is_done_after_a_minute(clock, capsys):
    with progress("extract", 7, "rows") as advance:
        clock.now += 60
        advance(0)
    assert "extract: 0 of 7 rows, 0.0/s" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_with_rate_and_time_left(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("extract", 40) as advance:
        advance(10)
        advance(30)
    shown = terminal.getvalue()
    assert "extract" in shown
    assert "40/40" in shown
    assert "photos," in shown
    assert "/s, left" in shown


def test_an_error_inside_passes_through(monkeypatch):
    def work():
        with progress("extract", 4) as advance:
            advance(1)
            raise KeyError

    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stderr", stream)
        with pytest.raises(KeyError):
            work()


def test_another_process_reads_the_progress_in_a_file(clock, monkeypatch, tmp_path):
    path = tmp_path / "progress"
    monkeypatch.setenv(module.PROGRESS_FILE, str(path))
    clock.now = 100.0
    seen = []
    with progress("features", 40) as advance:
        for _ in range(4):
            clock.now += 0.2
            advance(10)
            seen.append(json.loads(path.read_text())["done"])
    assert seen == [10, 10, 10, 40], "twice a second, and at the end"
    assert json.loads(path.read_text()) == {"label": "features", "done": 40, "total": 40, "unit": "photos"}
    note_progress("training", 1, None, "steps")
    assert json.loads(path.read_text()) == {"label": "training", "done": 1, "total": None, "unit": "steps"}
    monkeypatch.setenv(module.PROGRESS_FILE, str(tmp_path / "missing" / "progress"))
    note_progress("training", 2, 2, "steps")  # a file that cannot be written is no error


def test_a_status_line_is_replaced_on_a_terminal(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "11")
    with status_line() as show:
        show("3 of 7\x1b[2J and more")
        show("4 of 7")
    assert terminal.getvalue() == "\r\x1b[2K3 of 7\\x1b\r\x1b[2K4 of 7\r\x1b[2K"


def test_a_status_line_is_a_line_a_minute_without_a_terminal(clock, capsys):
    with status_line() as show:
        for number in range(13):
            show(f"line {number}")
            clock.now += 10
    assert capsys.readouterr().err.splitlines() == ["line 6", "line 12"]
