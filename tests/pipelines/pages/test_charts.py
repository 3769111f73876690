"""Charts over epochs: every value lies where its axis says, and what is missing is not drawn."""

import re

import numpy as np
import pytest

from pipelines.pages.charts import chart, scale


@pytest.mark.parametrize(("low", "high"), [
    (0.0, 1.0), (0.31, 0.36), (1e-6, 9e-7), (2.9991, 3.0), (-4.0, 250.0), (5.0, 5.0), (0.0, 0.0), (1e9, 1e9 + 1),
])  # fmt: skip
def test_marks_are_round_and_reach_around_the_values(low, high):
    low, high = min(low, high), max(low, high)
    marks = scale(low, high)
    steps = np.diff(marks)
    assert 3 <= len(marks) <= 8
    assert marks[0] <= low + 1e-9 * abs(low)
    assert marks[-1] >= high - 1e-9 * abs(high)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)
    assert round(steps[0] / 10 ** np.floor(np.log10(steps[0] * 1.0001)), 3) in (1, 2, 5)


def points(svg):
    return [
        [tuple(map(float, point.split(","))) for point in line.split()]
        for line in re.findall(r'polyline points="([^"]*)"', svg)
    ]


def test_values_lie_on_a_linear_axis():
    line = [0.4, 0.1, 0.25, 0.3]
    (drawn,) = points(chart("loss", {"training": line}))
    x, y = np.array(drawn).T
    np.testing.assert_allclose(np.diff(x), np.diff(x)[0], atol=0.11)
    np.testing.assert_allclose((y - y[0]) / (y[1] - y[0]), (np.array(line) - 0.4) / -0.3, atol=2e-3)


def test_missing_values_and_empty_lines_are_not_drawn():
    svg = chart("score", {"a": [None, 0.5, float("nan"), 0.7], "b": [None] * 4})
    (line,) = points(svg)
    assert len(line) == 2
    assert chart("nothing", {"a": [None], "b": []}) == ""


def test_one_epoch_and_names_that_are_no_html():
    svg = chart("<p>", {"a&b": [1.0], "c": [2.0]})
    assert [len(line) for line in points(svg)] == [1, 1]
    assert "&lt;p&gt;" in svg
    assert "a&amp;b" in svg


def test_a_long_run_has_room_for_its_marks():
    svg = chart("loss", {"a": [1 / epoch for epoch in range(1, 201)]})
    marks = [int(text) for text in re.findall(r'text-anchor="middle">(\d+)<', svg)]
    assert len(marks) <= 14
    assert marks[0] == 1
    assert marks == sorted(set(marks))
