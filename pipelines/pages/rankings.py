"""The page of an evaluation: figures, a curve, and rankings in pictures, in one file that opens from the disk."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..photos.reader import Crop, PhotoError, photo_size, read_photo

SIDE = 150  # pixels of a thumbnail's longer side
LEGEND = "green: right · red: wrong · grey: junk, not counted"

Mark = Literal["right", "wrong", "junk"]
Curve = tuple[np.ndarray, np.ndarray]

_COLOURS = ("#2e9e5b", "#2f6fd0", "#d64545", "#8a5cc2")
_LEFT, _TOP, _WIDTH, _HEIGHT = 52, 12, 420, 260


@dataclass(frozen=True)
class Picture:
    """A photo, or the part `crop` of it, in pixels of the whole photo as it was read, turned by EXIF or not.

    Around `box`, in the same pixels, a frame is drawn; such a photo is shown whole.
    """

    path: Path
    crop: Crop | None = None
    exif: bool = True
    box: Crop | None = None


@dataclass(frozen=True)
class Case:
    """A query with the first of its ranking.

    Attributes:
        query: what was searched with.
        note: the query's own figures.
        hits: the photos found, best first, each with its mark.
    """

    query: Picture
    note: str
    hits: Sequence[tuple[Picture, Mark]]


def page(
    title: str,
    facts: Sequence[str],
    mean: Mapping[str, Any],
    chart: str,
    cases: Sequence[Case],
    legend: str = LEGEND,
) -> str:
    """Writes the page.

    Args:
        title: of the page.
        facts: short lines under the title.
        mean: setting -> figure -> value, as `scores.score` gives it; no table where it is empty.
        chart: SVG elements, such as from `curves`.
        cases: the queries to show. A photo that cannot be read leaves an empty place with its name.
        legend: what the frames of the photos mean.

    Returns:
        HTML without scripts and without anything to load. Each photo is in it once.
    """
    classes: dict[Picture, str] = {}
    rows = "\n".join(_row(case, classes) for case in cases)
    styles = "\n".join(
        f".{name} {{ background-image: url({_data(picture)});{' background-size: contain;' * bool(picture.box)} }}"
        for picture, name in classes.items()
    )
    return _PAGE.format(
        title=html.escape(title),
        facts="".join(f"<span>{html.escape(fact)}</span>" for fact in facts),
        table=_table(mean),
        chart=chart,
        styles=styles,
        legend=html.escape(legend),
        rows=rows,
    )


def curves(lines: Mapping[str, Curve], x_label: str, y_label: str, x_ticks: Sequence[float]) -> str:
    """Draws curves of values in 0..1.

    Args:
        lines: name -> x and y, each (n,); what is NaN is not drawn.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
        x_ticks: the marks of the horizontal axis, rising; the first and last are its ends.

    Returns:
        An SVG element.
    """
    low, high = x_ticks[0], x_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + _WIDTH * (x - low) / (high - low), _TOP + _HEIGHT * (1 - y)

    parts = [_tick(*place(x, 0), 0, 18, f"{x:g}", "middle") for x in x_ticks]
    parts += [_tick(*place(low, y), -8, 4, f"{y:g}", "end") for y in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    parts += [_grid(*place(low, y), *place(high, y)) for y in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    for number, (name, (xs, ys)) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in zip(xs, ys, strict=True) if np.isfinite(y))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = _LEFT + _WIDTH - 8, _TOP + 16 + 18 * number
        parts.append(f'<text x="{x}" y="{y}" text-anchor="end" fill="{colour}">{html.escape(name)}</text>')
    middle = _LEFT + _WIDTH / 2, _TOP + _HEIGHT / 2
    parts.append(f'<text x="{middle[0]}" y="{_TOP + _HEIGHT + 38}" text-anchor="middle">{html.escape(x_label)}</text>')
    parts.append(f'<text transform="translate(14 {middle[1]}) rotate(-90)" text-anchor="middle">{y_label}</text>')
    return f'<svg viewBox="0 0 {_LEFT + _WIDTH + 16} {_TOP + _HEIGHT + 46}" role="img">{"".join(parts)}</svg>'


def _tick(x: float, y: float, right: float, down: float, text: str, anchor: str) -> str:
    return f'<text x="{x + right:.1f}" y="{y + down:.1f}" text-anchor="{anchor}">{text}</text>'


def _grid(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dde1e8"/>'


def percent(figure: str, value: float | None) -> str:
    """A figure as people print it: shares of 0..1 as 100 times, N-S as it is, - for what is not defined."""
    if value is None:
        return "-"
    return f"{value:.2f}" if figure == "N-S" else f"{100 * value:.2f}"


def _table(mean: Mapping[str, Any]) -> str:
    if not mean:
        return ""
    names = list(next(iter(mean.values())))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["", *names])
    body = "".join(
        f"<tr><th>{setting}</th>{''.join(f'<td>{percent(name, figures[name])}</td>' for name in names)}</tr>"
        for setting, figures in mean.items()
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _row(case: Case, classes: dict[Picture, str]) -> str:
    hits = "".join(_card(picture, mark, str(rank), classes) for rank, (picture, mark) in enumerate(case.hits, start=1))
    return f'<section>{_card(case.query, "query", case.note, classes)}<div class="found">{hits}</div></section>'


def _card(picture: Picture, mark: str, caption: str, classes: dict[Picture, str]) -> str:
    css, name = classes.setdefault(picture, f"p{len(classes)}"), html.escape(picture.path.name)
    return (
        f'<figure class="{mark}"><div class="photo {css}" role="img" aria-label="{name}" title="{name}"></div>'
        f"<figcaption><b>{html.escape(caption)}</b> {name}</figcaption></figure>"
    )


def _data(picture: Picture) -> str:
    from PIL import Image

    try:
        thumbnail = Image.fromarray(
            read_photo(picture.path, size=_whole_side(picture), crop=picture.crop, exif=picture.exif)
        )
        if picture.box is not None:
            _draw_box(thumbnail, picture)
    except PhotoError:
        return ""
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _draw_box(thumbnail: Any, picture: Picture) -> None:
    """Draws the frame of a whole photo's box: yellow with black inside, to be seen on anything."""
    from PIL import ImageDraw

    height, width = photo_size(picture.path, exif=picture.exif)
    scale = thumbnail.width / width, thumbnail.height / height
    corners = [round(side * scale[place % 2]) for place, side in enumerate(picture.box or (0, 0, width, height))]
    left, top, right, bottom = corners
    for width, colour in ((4, "black"), (2, "#ffe14d")):
        frame = left, top, max(right - 1, left + 1), max(bottom - 1, top + 1)
        ImageDraw.Draw(thumbnail).rectangle(frame, outline=colour, width=width)


def _whole_side(picture: Picture) -> int:
    """The size of the whole photo that leaves the crop a thumbnail's."""
    if picture.crop is None:
        return SIDE
    left, top, right, bottom = picture.crop
    return round(SIDE * max(photo_size(picture.path, exif=picture.exif)) / max(right - left, bottom - top, 1))


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ margin: 0 auto; max-width: 1500px; padding: 24px; font: 14px/1.4 system-ui, sans-serif;
  color: #1c2430; background: #f4f5f7; }}
h1 {{ margin: 0 0 6px; font-size: 24px; }}
header span {{ display: inline-block; margin: 0 8px 8px 0; padding: 3px 10px; border-radius: 12px;
  background: #e3e7ee; }}
.figures {{ display: flex; flex-wrap: wrap; gap: 32px; align-items: center; margin: 10px 0; padding: 16px;
  border-radius: 10px; background: #fff; box-shadow: 0 1px 3px #0002; }}
.figures:empty {{ display: none; }}
table {{ border-collapse: collapse; font-size: 16px; }}
th, td {{ padding: 6px 16px; text-align: right; border-bottom: 1px solid #dde1e8; }}
svg {{ width: 488px; max-width: 100%; font: 12px system-ui, sans-serif; fill: #1c2430; }}
section {{ display: flex; gap: 14px; margin: 10px 0; padding: 12px; border-radius: 10px; background: #fff;
  box-shadow: 0 1px 3px #0002; }}
.found {{ display: flex; flex-wrap: wrap; gap: 8px; padding-left: 14px; border-left: 1px solid #dde1e8; }}
figure {{ margin: 0; width: 112px; flex: none; }}
figure.query {{ width: 150px; }}
.photo {{ height: 100px; border: 4px solid transparent; border-radius: 6px; background-color: #eceef2;
  background-origin: border-box; background-position: center; background-repeat: no-repeat; background-size: cover; }}
.query .photo {{ height: 130px; background-size: contain; }}
.right .photo {{ border-color: #2e9e5b; }}
.wrong .photo {{ border-color: #d64545; }}
.junk .photo {{ border-color: #9aa3b0; opacity: .6; }}
figcaption {{ overflow: hidden; font-size: 11px; color: #5b6675; text-overflow: ellipsis; white-space: nowrap; }}
figcaption b {{ color: #1c2430; }}
.query figcaption {{ white-space: normal; }}
{styles}
</style>
<header><h1>{title}</h1>{facts}</header>
<div class="figures">{table}{chart}</div>
<p>{legend}</p>
{rows}
</html>
"""
