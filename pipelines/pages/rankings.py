"""Makes HTML pages that show rankings: metrics and charts first, then each query with the photos found for it."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any, Literal

from ..files.remote import RemoteError, address_of
from ..photos.formats import Source
from ..photos.reader import MAX_PIXELS, Crop, PhotoError, photo_size, read_photo
from ..photos.remote_photos import photo_of, photo_readers
from .charts import Chart
from .render import data_url, render

log = logging.getLogger("keras_retrieval")

SIDE = 150  # pixels of a thumbnail's longer side
LEGEND = "✓ green: right · ✗ red: wrong · ○ grey: junk, not counted"

Mark = Literal["right", "wrong", "junk", ""]


@dataclass(frozen=True)
class Picture:
    """A photo on a page, or a part of a photo.

    Attributes:
        path: the path of the photo, or its address as a path.
        crop: the part to show, (left, top, right, bottom) in pixels of the whole photo after its EXIF orientation is
            applied; None for the whole photo.
        exif: whether the EXIF orientation is applied to the photo.
        box: a frame to draw on the photo, in the same coordinates as `crop`; None for no frame. A photo with a frame is
            shown without cutting off its edges. Do not set both `crop` and `box`.
        name: the name to show with the photo; "" for the file's name.
        max_pixels: the largest number of pixels that the photo's header may declare; a larger photo is not shown.
    """

    path: Path
    crop: Crop | None = None
    exif: bool = True
    box: Crop | None = None
    name: str = ""
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Hit:
    """A photo that was found for a query.

    Attributes:
        picture: the photo.
        mark: the judgement that the photo's frame shows: "right", "wrong", "junk" (not counted), or "" for no frame.
        caption: the text to show with the photo; "" for its rank.
    """

    picture: Picture
    mark: Mark = ""
    caption: str = ""


@dataclass(frozen=True)
class Case:
    """A query with the first photos of its ranking.

    Attributes:
        query: the query photo, or the part of it that was used as the query.
        note: a short text under the query, such as its metrics.
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
    """Renders an HTML page that shows rankings.

    Args:
        kind: the kind of the page, such as "evaluation", which is shown above the title.
        title: the title of the page.
        facts: short texts to show under the title.
        table: maps the name of each row to its metrics, a dict from the name of a metric to its value; None for no
            table. See :func:`percent` for the values.
        charts: the charts to show; None entries are skipped.
        cases: the queries to show with their rankings. For a photo that cannot be read, only its name is shown.
        legend: the explanation of the photos' frames.
        side: the length of a thumbnail's longer side in pixels.

    Returns:
        The HTML, without scripts and external resources. Each photo is embedded once.
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
    """Formats the value of a metric with two decimals.

    Args:
        figure: the name of the metric. "N-S", the UKBench score in 0..4, is not converted to percent.
        value: the value; a fraction in 0..1 for all metrics except "N-S". None if the metric is undefined.

    Returns:
        The value in percent without the sign %, the value itself for "N-S", or "-" for None.
    """
    if value is None:
        return "-"
    return f"{value:.2f}" if figure == "N-S" else f"{100 * value:.2f}"


def _photos(pictures: Sequence[Picture], side: int) -> dict[Picture, dict[str, Any]]:
    """Maps each photo, in the order of the page, to the template's values.

    The values are the CSS class "css", the name, the thumbnail's "url" ("" if the photo cannot be read), and "whole",
    which is true if the photo must not be cut off.
    """
    distinct = list(dict.fromkeys(pictures))
    return {
        picture: {
            "css": f"p{number}",
            "name": picture.name or picture.path.name,
            "url": url,
            "whole": picture.box is not None,
        }
        for number, (picture, url) in enumerate(zip(distinct, _urls(distinct, side), strict=True))
    }


def _urls(pictures: Sequence[Picture], side: int) -> list[str]:
    """The thumbnails as data URLs, "" for photos that cannot be read.

    Once a storage has not answered for minutes, the page has no more photos at addresses.
    """
    silent, answering = Event(), Lock()

    def url(picture: Picture) -> str:
        if silent.is_set() and address_of(picture.path):
            return ""
        try:
            return _thumbnail(picture, side)
        except RemoteError as error:
            with answering:  # several photos are fetched at once, and one warning is enough
                first = not silent.is_set()
                silent.set()
            if first:
                log.warning(f"the page lacks photos: {error}")
            return ""

    there = next((picture.path for picture in pictures if address_of(picture.path)), None)
    with ThreadPoolExecutor(1 if there is None else photo_readers(there)) as pool:
        return list(pool.map(url, pictures))


def _thumbnail(picture: Picture, side: int) -> str:
    from PIL import Image

    options: dict[str, Any] = {"exif": picture.exif, "max_pixels": picture.max_pixels}

    def drawn(source: Source) -> Image.Image:
        size = _whole_side(picture, source, side, options)
        thumbnail = Image.fromarray(read_photo(source, size=size, crop=picture.crop, **options))
        if picture.box is not None:
            _draw_box(thumbnail, picture, source, options)
        return thumbnail

    try:
        return data_url(photo_of(picture.path, drawn))
    except (PhotoError, OSError):
        return ""


def _draw_box(thumbnail: Any, picture: Picture, source: Source, options: Mapping[str, Any]) -> None:
    """Draws the photo's box on a thumbnail of the whole photo, yellow on black, so that any background shows it."""
    from PIL import ImageDraw

    height, width = photo_size(source, **options)
    scale = thumbnail.width / width, thumbnail.height / height
    corners = [round(side * scale[place % 2]) for place, side in enumerate(picture.box or (0, 0, width, height))]
    left, top, right, bottom = corners
    for width, colour in ((4, "black"), (2, "#ffe14d")):
        frame = left, top, max(right - 1, left + 1), max(bottom - 1, top + 1)
        ImageDraw.Draw(thumbnail).rectangle(frame, outline=colour, width=width)


def _whole_side(picture: Picture, source: Source, side: int, options: Mapping[str, Any]) -> int:
    """Computes the longer side to which the whole photo is resized so that its crop has a thumbnail's size."""
    if picture.crop is None:
        return side
    left, top, right, bottom = picture.crop
    return round(side * max(photo_size(source, **options)) / max(right - left, bottom - top, 1))
