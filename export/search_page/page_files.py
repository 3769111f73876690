"""The files of the page: its HTML, and the scripts, styles and data in `static/`."""

import re
from functools import cache
from importlib import resources

from keras_retrieval.pipelines.pages.render import render, style

TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
    "png": "image/png",
    "woff2": "font/woff2",
}
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.([a-z0-9]+)", re.ASCII)


def page(title: str) -> str:
    """Renders the HTML of the page.

    Args:
        title: title of the collection.
    """
    return render("search_page.html.j2", kind="search", title=title)


@cache
def static_file(name: str) -> tuple[bytes, str] | None:
    """Reads a file of the page.

    Args:
        name: name of a file in `static/`, or "style.css" for the style sheet of all pages.

    Returns:
        The content and its content type; None if there is no such file.
    """
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in TYPES:
        return None
    if name == "style.css":
        return style().encode(), TYPES["css"]
    file = resources.files(__package__) / "static" / name
    return (file.read_bytes(), TYPES[match[1]]) if file.is_file() else None
