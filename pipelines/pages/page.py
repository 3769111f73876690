"""A page of search results that opens from the disk: pictures inside, no server, nothing to load."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

THUMBNAIL = 220  # longest side in pixels


@dataclass(frozen=True)
class Neighbour:
    """One photo in a ranking; `right` says whether it shows the query's object, None where nobody knows."""

    name: str
    score: float
    right: bool | None = None


@dataclass(frozen=True)
class Result:
    """A query with its neighbours, best first, and a figure of its own such as its AP."""

    query: str
    neighbours: Sequence[Neighbour]
    note: str = ""


def page(title: str, facts: Sequence[str], results: Sequence[Result], picture: Callable[[str], np.ndarray]) -> str:
    """Writes the page.

    Args:
        title: of the page.
        facts: short lines under the title.
        results: a row of pictures each.
        picture: the pixels of a photo's name, (H, W, 3) uint8, small. Each photo is asked for once; an error of it
            leaves an empty place with the name.

    Returns:
        The HTML.
    """
    names: dict[str, int] = {}
    rows = "\n".join(_row(result, names) for result in results)
    pictures = ",\n".join(f'"{_data(picture, name)}"' for name in names)
    return _PAGE.format(
        title=html.escape(title),
        facts="".join(f"<span>{html.escape(fact)}</span>" for fact in facts),
        rows=rows,
        pictures=pictures,
    )


def _row(result: Result, names: dict[str, int]) -> str:
    cards = "".join(
        _card(neighbour.name, f"{neighbour.score:.3f}", _mark(neighbour.right), names)
        for neighbour in result.neighbours
    )
    query = _card(result.query, result.note or "query", "query", names)
    return f'<section>{query}<div class="found">{cards}</div></section>'


def _mark(right: bool | None) -> str:
    return {None: "", True: "right", False: "wrong"}[right]


def _card(name: str, caption: str, mark: str, names: dict[str, int]) -> str:
    number = names.setdefault(name, len(names))
    text = html.escape(name)
    return (
        f'<figure class="{mark}"><img data-photo="{number}" alt="{text}" title="{text}">'
        f"<figcaption><b>{html.escape(caption)}</b> {text}</figcaption></figure>"
    )


def _data(picture: Callable[[str], np.ndarray], name: str) -> str:
    from PIL import Image

    try:
        pixels = picture(name)
    except (ValueError, OSError):
        return ""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


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
section {{ display: flex; gap: 14px; margin: 14px 0; padding: 12px; border-radius: 10px; background: #fff;
  box-shadow: 0 1px 3px #0002; }}
.found {{ display: flex; flex-wrap: wrap; gap: 10px; padding-left: 14px; border-left: 1px solid #dde1e8; }}
figure {{ margin: 0; width: 128px; flex: none; }}
figure.query {{ width: 176px; }}
img {{ display: block; width: 100%; height: 104px; object-fit: cover; border-radius: 6px; background: #dde1e8;
  box-sizing: border-box; border: 3px solid transparent; }}
.query img {{ height: 140px; object-fit: contain; }}
.right img {{ border-color: #2e9e5b; }}
.wrong img {{ border-color: #d64545; }}
figcaption {{ overflow: hidden; font-size: 11px; color: #5b6675; text-overflow: ellipsis; white-space: nowrap; }}
figcaption b {{ color: #1c2430; }}
</style>
<header><h1>{title}</h1>{facts}</header>
{rows}
<script>
const photos = [{pictures}];
for (const image of document.querySelectorAll("img")) image.src = photos[image.dataset.photo] || "data:,";
</script>
</html>
"""
