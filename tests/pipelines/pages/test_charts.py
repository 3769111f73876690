"""Charts: values are at their places on the axes, missing values are not drawn, and colour is never the only cue."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pipelines.pages.charts import curves, over_epochs


def dots(chart):
    """The points of each line, in the drawing's pixels."""
    lines = ET.fromstring(chart.svg).findall(".//g[@class='line']")
    return [[(float(dot.get("x")), float(dot.get("y"))) for dot in line.iter("use")] for line in lines]


def marks(chart, anchor):
    """The texts of an axis' marks: "middle" for the horizontal axis, "end" for the vertical one."""
    texts = [text for text in ET.fromstring(chart.svg).iter("text") if f"anchor: {anchor}" in text.get("style")]
    return [float(text.text.replace("\N{MINUS SIGN}", "-")) for text in texts if not re.match("[a-z]", text.text)]


@pytest.mark.parametrize(("low", "high"), [
    (0.0, 1.0), (0.31, 0.36), (1e-6, 9e-7), (2.9991, 3.0), (-4.0, 250.0), (5.0, 5.0), (0.0, 0.0), (1e9, 1e9 + 1),
])  # fmt: skip
def test_marks_are_round_and_reach_around_the_values(low, high):
    low, high = min(low, high), max(low, high)
    found = marks(over_epochs("a", {"line": [low, high]}), "end")
    steps = np.diff(found)
    assert 3 <= len(found) <= 8
    assert found[0] <= low + 1e-9 * abs(low)
    assert found[-1] >= high - 1e-9 * abs(high)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)
    assert round(steps[0] / 10 ** np.floor(np.log10(steps[0] * 1.0001)), 3) in (1, 2, 5)


def test_values_lie_on_a_linear_axis():
    line = [0.4, 0.1, 0.25, 0.3]
    chart = over_epochs("loss", {"training": line})
    (drawn,) = dots(chart)
    x, y = np.array(drawn).T
    np.testing.assert_allclose(np.diff(x), np.diff(x)[0], atol=0.01)
    np.testing.assert_allclose((y - y[0]) / (y[1] - y[0]), (np.array(line) - 0.4) / -0.3, atol=2e-3)
    assert [row[1] for row in chart.rows] == ["0.4", "0.1", "0.25", "0.3"]


def test_missing_values_and_empty_lines_are_not_drawn():
    chart = over_epochs("score", {"a": [None, 0.5, float("nan"), 0.7], "b": [None] * 4})
    (line,) = dots(chart)
    assert len(line) == 2
    assert chart.names == ["a"]
    assert chart.rows == [["1", "-"], ["2", "0.5"], ["3", "-"], ["4", "0.7"]]
    assert over_epochs("nothing", {"a": [None], "b": []}) is None


def test_one_epoch_and_names_that_are_no_html():
    chart = over_epochs("<p> $x$", {"a&b": [1.0], "c": [2.0]})
    assert [len(line) for line in dots(chart)] == [1, 1]
    assert chart.svg.startswith("<svg ")
    assert "<p>" not in chart.svg
    root = ET.fromstring(chart.svg)
    assert (
        root.get("aria-label")
        == "<p> $x$. a&b: from 1 at epoch 1 to 1 at epoch 1; c: from 2 at epoch 1 to 2 at epoch 1."
    )
    assert [title.text for title in root.iter("title")] == ["a&b: 1 at epoch 1", "c: 2 at epoch 1"]


def test_a_long_run_has_room_for_its_marks():
    chart = over_epochs("loss", {"a": [1 / epoch for epoch in range(1, 201)]})
    found = marks(chart, "middle")
    assert 3 <= len(found) <= 14
    assert found == sorted(set(found))
    assert len(chart.rows) == 200


def test_a_curve_stands_where_its_values_are():
    chart = curves("c", {"all": (np.array([0, 0.5, 1]), np.array([1, np.nan, 0]))}, "x", "y", (0, 0.5, 1))
    (line,) = dots(chart)
    assert len(line) == 2
    (left, top), (right, bottom) = line
    assert left < right
    assert top < bottom
    assert marks(chart, "middle")[:3] == [0, 0.5, 1]


def test_colours_are_those_of_the_page_and_ids_those_of_one_chart():
    charts = [over_epochs("loss", {"a": [1, 2], "b": [2, 1]}), over_epochs("p", {"a": [1, 2], "b": [2, 1]})]
    for chart in charts:
        assert not re.search(r": ?#[0-9a-f]{6}|font-family|<style|xmlns", chart.svg)
        assert {"currentColor", "var(--line)", "var(--series-1)", "var(--series-2)"} <= set(
            re.findall(r"(?:fill|stroke): ([^;\"]+)", chart.svg)
        )
    ids = [name for chart in charts for name in re.findall(r' id="([^"]+)"', chart.svg)]
    assert len(ids) == len(set(ids)) == 4
    assert over_epochs("loss", {"a": [1, 2], "b": [2, 1]}) == charts[0], "the same values, the same chart"
