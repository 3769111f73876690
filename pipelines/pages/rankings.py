"""A page that shows rankings as photos: metrics and charts at the top, then each query with its photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..photos.reader import MAX_PIXELS, Crop, PhotoError, photo_size, read_photo
from .charts import Chart
from .render import data_url, render

SIDE = 150  # pixels of a thumbnail's longer side
LEGEND = "✓ green: right · ✗ red: wrong · ○ grey: junk, not counted"

Mark = Literal["right", "wrong", "junk", ""]


@dataclass(frozen=True)
class Picture:
    """A photo, or a part of it.

    Attributes:
        path: the path of the photo.
        crop: the part to show, (left, top, right, bottom) in pixels of the whole photo as it is read.
        exif: whether the EXIF orientation is applied to the photo.
        box: a frame to draw, in the same pixels as `crop`. A photo with a box is shown whole.
        name: the name to show with the photo; "" for the file's name.
        max_pixels: the largest number of pixels; a larger photo is not read.
    """

    path: Path
    crop: Crop | None = None
    exif: bool = True
    box: Crop | None = None
    name: str = ""
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Hit:
    """A photo of a ranking.

    Attributes:
        picture: the photo.
        mark: the kind of its frame; "" for no frame.
        caption: the text to show with the photo; "" for its rank.
    """

    picture: Picture
    mark: Mark = ""
    caption: str = ""


@dataclass(frozen=True)
class Case:
    """A query with the first photos of its ranking.

    Attributes:
        query: the photo, or its part, that was searched with.
        note: the metrics of the query.
        hits: the photos found, best first.
    """

    query: Picture
    note: str
    hits: Sequence[Hit]


def page(
    kind: str,
    title: str,
    facts: Sequence[str],
    *,
    table: Mapping[str, Mapping[str, float | None]] | None = None,
    charts: Sequence[Chart | None] = (),
    cases: Sequence[Case] = (),
    legend: str = LEGEND,
    side: int = SIDE,
) -> str:
    """Writes a page of rankings.

    Args:
        kind: the kind of the page, shown above its title, such as "evaluation".
        title: the title of the page.
        facts: short lines under the title.
        table: maps the name of each row to its metrics, by name.
        charts: the charts to show; None is left out.
        cases: the queries to show. A photo that cannot be read leaves an empty place with its name.
        legend: the meaning of the photos' frames.
        side: pixels of a thumbnail's longer side.

    Returns:
        HTML without scripts or external resources. Each photo is embedded once.
    """
    pictures = [picture for case in cases for picture in (case.query, *(hit.picture for hit in case.hits))]
    return render(
        "rankings.html.j2",
        kind=kind,
        title=title,
        facts=facts,
        table={row: {name: percent(name, figures[name]) for name in figures} for row, figures in (table or {}).items()},
        charts=[chart for chart in charts if chart is not None],
        cases=cases,
        legend=legend,
        photos=_photos(pictures, side),
    )


def percent(figure: str, value: float | None) -> str:
    """Formats a metric: a fraction in 0..1 in percent, N-S unchanged, and an undefined one as -."""
    if value is None:
        return "-"
    return f"{value:.2f}" if figure == "N-S" else f"{100 * value:.2f}"


def _photos(pictures: Sequence[Picture], side: int) -> dict[Picture, dict[str, Any]]:
    """The CSS class, name, thumbnail ("" if it cannot be read) and `whole` of each photo, in the order of the page."""
    return {
        picture: {
            "css": f"p{number}",
            "name": picture.name or picture.path.name,
            "url": _thumbnail(picture, side),
            "whole": picture.box is not None,
        }
        for number, picture in enumerate(dict.fromkeys(pictures))
    }


def _thumbnail(picture: Picture, side: int) -> str:
    from PIL import Image

    options: dict[str, Any] = {"exif": picture.exif, "max_pixels": picture.max_pixels}
    try:
        size = _whole_side(picture, side, options)
        thumbnail = Image.fromarray(read_photo(picture.path, size=size, crop=picture.crop, **options))
        if picture.box is not None:
            _draw_box(thumbnail, picture, options)
    except (PhotoError, OSError):
        return ""
    return data_url(thumbnail)


def _draw_box(thumbnail: Any, picture: Picture, options: Mapping[str, Any]) -> None:
    """Draws the frame of a whole photo's box: yellow with black inside, visible on any ground."""
    from PIL import ImageDraw

    height, width = photo_size(picture.path, **options)
    scale = thumbnail.width / width, thumbnail.height / height
    corners = [round(side * scale[place % 2]) for place, side in enumerate(picture.box or (0, 0, width, height))]
    left, top, right, bottom = corners
    for width, colour in ((4, "black"), (2, "#ffe14d")):
        frame = left, top, max(right - 1, left + 1), max(bottom - 1, top + 1)
        ImageDraw.Draw(thumbnail).rectangle(frame, outline=colour, width=width)


def _whole_side(picture: Picture, side: int, options: Mapping[str, Any]) -> int:
    """The longer side of the whole photo at which its part is as large as a thumbnail."""
    if picture.crop is None:
        return side
    left, top, right, bottom = picture.crop
    return round(side * max(photo_size(picture.path, **options)) / max(right - left, bottom - top, 1))
