"""The progress of an update: its numbers, and the line that shows them."""

import io
import logging

from export.collection.progress_line import ProgressLine
from export.collection.work import DESCRIBING, LOADING, Meter, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_rate_and_the_time_left_come_from_the_photos_that_are_done():
    now, seen = [100.0], []
    meter = Meter(seen.append, lambda: now[0])
    meter.begin(LOADING)
    assert seen[-1].line == "step 2 of 3: loading the network"
    now[0] = 110.0
    meter.begin(DESCRIBING, 1100)
    now[0] = 120.0
    meter.advance(40)
    meter.advance(60)
    assert (seen[-1].done, seen[-1].total, seen[-1].rate, seen[-1].seconds_left) == (100, 1100, 10.0, 100.0)
    assert seen[-1].line == "step 3 of 3: describing photos, 100 of 1,100 photos, 10.0 photos/s, 2 min left"
    now[0] = 220.0
    meter.advance(1000)
    assert seen[-1].line.endswith("1,100 of 1,100 photos, 10.0 photos/s")


def test_time_spans_in_words():
    assert [duration(seconds) for seconds in (0.2, 45, 89, 91, 3600, 7800)] == [
        "1 s", "45 s", "89 s", "2 min", "60 min", "2 h 10 min",
    ]  # fmt: skip


def test_a_terminal_has_one_line_that_makes_way_for_others(monkeypatch):
    monkeypatch.setattr("export.collection.progress_line._FASTEST", 0.0)
    stream = Terminal()
    line = ProgressLine(stream)
    line.show("describing", "1 of 2\x1b[31m")
    line.show("describing", "2 of 2")
    assert stream.getvalue() == "\r\x1b[K1 of 2\\x1b[31m\r\x1b[K2 of 2"
    line.make_way(logging.makeLogRecord({}))
    line.clear()
    assert stream.getvalue().endswith("2 of 2\r\x1b[K")


def test_a_file_has_a_line_for_each_step_only():
    stream = io.StringIO()
    line = ProgressLine(stream)
    for label, text in (("loading", "step 2"), ("describing", "1 of 9"), ("describing", "2 of 9"), ("describing", "3")):
        line.show(label, text)
    line.clear()
    assert stream.getvalue() == "step 2\n1 of 9\n"


def test_a_terminal_that_is_gone_ends_nothing():
    stream = Terminal()
    line = ProgressLine(stream)
    stream.close()
    line.show("describing", "1 of 2")
    line.clear()
