"""Draws line charts as SVG with Matplotlib.

Matplotlib was chosen over Vega-Lite and Plotly because a chart has only a few lines over epochs or recall, and a page
must open from the disk without a network connection. Vega-Lite and Plotly draw in the browser, so that each page would
contain 0.8 to 3.5 MB of JavaScript, would show nothing where scripts are disabled, and would need a text alternative.
An SVG file of Matplotlib has about 10 KB and can be scaled, printed and searched. Matplotlib takes 60 MB of disk space,
compared with TensorFlow's 1.5 GB, and about two seconds to import when a command writes its page.

This module adds three features to Matplotlib's SVG. Colours become CSS values (`currentColor`, `var(--series-1)` ..),
so that a chart follows the page's light or dark mode. Points get `<title>` elements, which browsers show as tooltips.
Each chart has a summary for screen readers and its values as text, which the template shows as a table.
"""

import hashlib
import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Curve = tuple[np.ndarray, np.ndarray]

_WIDTH, _HEIGHT = 400, 240  # size of the drawing, in CSS pixels; the page may scale it
_TEXT = 12
_MOST_POINTS = 60  # a line with more points has no dots and no tooltips
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)))
_INK, _GRID = "#010101", "#020202"
_SERIES = ("#030301", "#030302", "#030303", "#030304")
# Colours of the drawing -> colours of the page.
_COLOURS = {_INK: "currentColor", _GRID: "var(--line)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, start=1)
}


@dataclass(frozen=True)
class Chart:
    """A line chart as SVG, together with its values as a table.

    Attributes:
        title: the title of the chart.
        names: the names of the lines, in the order of their colours.
        svg: the SVG element, which has a summary of the chart as its label. It is marked as safe HTML, so that the
            template inserts it without escaping.
        x_label: the label of the horizontal axis.
        rows: the rows of the table as text: the x value, then the value of each line, "-" where a line has no value.
    """

    title: str
    names: Sequence[str]
    svg: str
    x_label: str
    rows: Sequence[Sequence[str]]


def over_epochs(title: str, lines: Mapping[str, Sequence[float | None]]) -> Chart | None:
    """Draws values over training epochs, which are numbered from 1.

    Args:
        title: the title of the chart.
        lines: maps the name of each line to its values, one per epoch; None and values that are not finite are not
            drawn.

    Returns:
        The chart, or None if no line has a finite value.
    """
    curves = {
        name: (np.arange(1.0, len(line) + 1), np.array([np.nan if value is None else value for value in line], float))
        for name, line in lines.items()
    }
    curves = {name: curve for name, curve in curves.items() if np.isfinite(curve[1]).any()}
    if not curves:
        return None
    last = max(len(x) for x, _ in curves.values())

    def axes(plot: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        plot.set_xlim((1, last) if last > 1 else (0.5, 1.5))
        plot.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        low, high = _range([y for _, y in curves.values()])
        marks = MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3).tick_values(low, high)
        plot.set_yticks(marks)
        plot.set_ylim(marks[0], marks[-1])

    return _draw(title, curves, "epoch", "", axes)


def curves(title: str, lines: Mapping[str, Curve], x_label: str, y_label: str, x_ticks: Sequence[float]) -> Chart:
    """Draws curves of values in 0..1.

    Args:
        title: the title of the chart.
        lines: maps the name of each line to its x and y values, each an array (n,); points whose y is NaN are not
            drawn.
        x_label: the label of the horizontal axis.
        y_label: the label of the vertical axis.
        x_ticks: the ticks of the horizontal axis in ascending order; the first and the last tick are the limits of the
            axis.

    Returns:
        The chart.
    """

    def axes(plot: Any) -> None:
        plot.set_xlim(x_ticks[0], x_ticks[-1])
        plot.set_xticks(list(x_ticks))
        plot.set_ylim(0, 1)
        plot.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])

    return _draw(title, lines, x_label, y_label, axes)


def _range(lines: Sequence[np.ndarray]) -> tuple[float, float]:
    """Returns the smallest and the largest finite value, moved apart if all values are equal."""
    known = np.concatenate([line[np.isfinite(line)] for line in lines])
    low, high = float(known.min()), float(known.max())
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        pad = 0.1 * (abs(low) or 1.0)
        return low - pad, high + pad
    return low, high


def _draw(title: str, lines: Mapping[str, Curve], x_label: str, y_label: str, axes: Any) -> Chart:
    from markupsafe import Markup
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawn = {name: (x[np.isfinite(y)], y[np.isfinite(y)]) for name, (x, y) in lines.items()}
    settings = {
        "font.family": ["DejaVu Sans"],
        "font.size": _TEXT,
        "path.simplify": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "pages",
        "text.parse_math": False,
    }
    settings |= dict.fromkeys(["text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"], _INK)
    with rc_context(settings):
        figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), layout="constrained")
        plot = figure.add_subplot()
        axes(plot)
        plot.yaxis.set_major_formatter(lambda value, _: f"{value:.12g}")
        plot.xaxis.set_major_formatter(lambda value, _: f"{value:.12g}")
        plot.set_xlabel(x_label)
        plot.set_ylabel(y_label)
        plot.grid(axis="y", color=_GRID, linewidth=1, clip_on=False)
        plot.tick_params(length=0, pad=8)
        plot.spines[:].set_visible(False)
        for number, (x, y) in enumerate(drawn.values()):
            style: dict[str, Any] = {
                "color": _SERIES[number % len(_SERIES)],
                "linestyle": _DASHES[number % len(_DASHES)],
            }
            dots = "o" if len(x) <= _MOST_POINTS else ""
            plot.plot(x, y, marker=dots, markersize=5, linewidth=2, clip_on=False, gid=f"line-{number}", **style)
        svg = _for_pages(_save(figure), title, drawn, x_label)
    return Chart(title, list(lines), Markup(svg), x_label, _rows(lines))


def _save(figure: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _for_pages(svg: str, title: str, lines: Mapping[str, Curve], x_label: str) -> str:
    """Converts an SVG file of Matplotlib to an SVG element for a page.

    Namespaces and style sheets are removed, ids are made unique, and colours, tooltips and a label are added.
    """
    root = ET.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if element.tag == "text":
            # The page's own typeface; Matplotlib's rotation by -0 degrees is redundant.
            element.set("style", element.attrib["style"].replace(" font-family: 'DejaVu Sans';", ""))
            if element.get("transform", "").startswith("rotate(-0 "):
                del element.attrib["transform"]
    for number, (name, (x, y)) in enumerate(lines.items()):
        line = root.find(f".//g[@id='line-{number}']")
        if line is not None:
            line.set("class", "line")
            _add_tooltips(line, name if len(lines) > 1 else "", x, y, x_label)
    _prune(root)
    _rename_ids(root, "c" + hashlib.sha256(f"{title}{svg}".encode()).hexdigest()[:8])
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": _summary(title, lines, x_label)}
    for element in root.iter():
        if "style" in element.attrib:
            style = re.sub("#0[0-9]{5}", lambda found: _COLOURS.get(found[0], found[0]), element.attrib["style"])
            element.set("style", style)
    return ET.tostring(root, encoding="unicode")


def _prune(element: ET.Element) -> None:
    """Removes Matplotlib's description and style sheet, which would apply to the whole page, and empty groups."""
    for child in list(element):
        _prune(child)
        if child.tag in ("metadata", "style") or (child.tag in ("g", "defs") and not len(child)):
            element.remove(child)
    if element.tag in ("svg", "g", "defs"):
        element.text = None
    element.tail = "\n" if element.tag in ("path", "text", "use") else None


def _add_tooltips(line: ET.Element, name: str, x: np.ndarray, y: np.ndarray, x_label: str) -> None:
    dots = list(line.iter("use"))
    for dot, left, up in zip(dots, x, y, strict=bool(dots)):
        ET.SubElement(dot, "title").text = f"{name + ': ' if name else ''}{up:.6g} at {x_label} {left:g}"


def _rename_ids(root: ET.Element, prefix: str) -> None:
    """Removes ids without a reference, and makes the others unique among the charts of a page."""
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", ET.tostring(root, encoding="unicode")))
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{prefix}-{name}")
        for key, value in element.attrib.items():
            if key == "href" and value.startswith("#"):
                element.set(key, f"#{prefix}-{value[1:]}")
            elif value.startswith("url(#"):
                element.set(key, f"url(#{prefix}-{value[5:]}")


def _summary(title: str, lines: Mapping[str, Curve], x_label: str) -> str:
    parts = [
        f"{name}: from {y[0]:.4g} at {x_label} {x[0]:g} to {y[-1]:.4g} at {x_label} {x[-1]:g}"
        for name, (x, y) in lines.items()
        if len(y)
    ]
    return f"{title}. {'; '.join(parts)}."


def _rows(lines: Mapping[str, Curve]) -> list[list[str]]:
    """Returns the values of all lines as rows of text, one row for each x."""
    places = sorted({float(x) for xs, _ in lines.values() for x in xs})
    known = [dict(zip(map(float, xs), map(float, ys), strict=True)) for xs, ys in lines.values()]
    return [[f"{place:g}", *(_cell(values.get(place)) for values in known)] for place in places]


def _cell(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"
