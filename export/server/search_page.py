"""The search page at `/` of a server with an index: page files, metadata of the index, and the indexed photos.

The page searches through the REST API, as any client can. A photo is served only if the index contains its name and its
file is in the photo folder, so that no name gives access to another file.
"""

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np
from keras_retrieval.pipelines.pages.render import render, style
from keras_retrieval.pipelines.photos.reader import PhotoError, read_photo

from ..contract.signatures import REASONS
from ..http.messages import NOT_FOUND, Answer, Request, Response
from .errors import ServingError
from .limits import Deadline
from .model_registry import ModelRegistry
from .photo_search import PhotoSearch

FILES: dict[str, tuple[Callable[[], str], str]] = {
    "/": (partial(render, "live_search.html.j2", kind="live search", title="Visual search"), "text/html"),
    "/page.css": (style, "text/css"),
    "/page.js": (lambda: (resources.files(__package__) / "page" / "page.js").read_text("utf-8"), "text/javascript"),
}
ABOUT, THUMBNAILS, PHOTOS = "/about.json", "/thumbnails/", "/photos/"
SAMPLES = 12
SIDE, QUALITY = 360, 82  # longer side of a thumbnail in pixels, and its JPEG quality
LARGEST_CACHE = 64 * 2**20  # maximum size in bytes of all cached thumbnails
SECONDS = 30.0  # maximum number of seconds that a photo waits to be decoded
FORMS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
    b"BM": "image/bmp",
}
REVALIDATE = {"Cache-Control": "no-cache"}
KEEP = {"Cache-Control": "private, max-age=600"}
GUARD = {
    # No content from other servers, no scripts except the page's own, and no guessing of content types.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class SearchPage:
    """Answers the requests of the search page, and passes all other requests on.

    Args:
        search: the index to search.
        models: the served models.
        photos: folder of the indexed photos.
        rest: function that answers all other requests.
    """

    def __init__(self, search: PhotoSearch, models: ModelRegistry, photos: Path, rest: Answer) -> None:
        self._search, self._models, self._folder, self._rest = search, models, photos, rest
        self._thumbnails = Cache(LARGEST_CACHE)

    def answer(self, request: Request) -> Response:
        """Answers a request of the search page, or passes the request on to `rest`."""
        found = self._find(request.path) if request.method in ("GET", "HEAD") else None
        return self._rest(request) if found is None else found

    def _find(self, path: str) -> Response | None:
        if path in FILES:
            content, content_type = FILES[path]
            return Response(200, content(), f"{content_type}; charset=utf-8", REVALIDATE | GUARD)
        if path == ABOUT:
            return Response(200, json.dumps(self._about()), headers=REVALIDATE)
        for prefix, picture in ((THUMBNAILS, self._thumbnail), (PHOTOS, self._photo)):
            if path.startswith(prefix):
                return self._picture(picture, unquote(path[len(prefix) :]))
        return None

    def _about(self) -> dict[str, Any]:
        index = self._search.index
        model, names = index.facts["model"], index.names
        rows = np.unique(np.linspace(0, len(names) - 1, min(SAMPLES, len(names))).astype(int))
        about = {
            "photos": len(names),
            "network": Path(model.get("path") or model["name"]).name,
            "size": index.facts["size"],
            "samples": [names[row] for row in rows.tolist()],
            "reasons": REASONS,
        }
        try:
            return about | {"model": self._search.model(self._models)}
        except ServingError as error:
            return about | {"problem": error.message}

    def _picture(self, picture: Callable[[str, Path], tuple[bytes, str]], name: str) -> Response:
        path = self._path(name)
        try:
            data, content_type = (b"", "") if path is None else picture(name, path)
        except (PhotoError, OSError):
            return NOT_FOUND
        except ServingError as error:
            return Response(error.http_status, json.dumps({"error": error.message}))
        return Response(200, data, content_type, KEEP | GUARD) if data else NOT_FOUND

    def _path(self, name: str) -> Path | None:
        parts = PurePosixPath(name)
        inside = bool(name) and "\0" not in name and not parts.is_absolute() and ".." not in parts.parts
        path = self._folder / name
        return path if inside and self._search.holds(name) and path.is_file() else None

    def _thumbnail(self, name: str, path: Path) -> tuple[bytes, str]:
        key = (name, path.stat().st_mtime_ns)
        if (kept := self._thumbnails.get(key)) is None:
            kept = self._jpeg(path, SIDE)
            self._thumbnails.put(key, kept)
        return kept, "image/jpeg"

    def _photo(self, name: str, path: Path) -> tuple[bytes, str]:
        """Returns the unchanged file, or a JPEG of full size if browsers do not support the format of the file."""
        data = path.read_bytes()
        content_type = next((kind for start, kind in FORMS.items() if data.startswith(start)), None)
        return (data, content_type) if content_type else (self._jpeg(path, None), "image/jpeg")

    def _jpeg(self, path: Path, side: int | None) -> bytes:
        from PIL import Image

        facts = self._search.index.facts
        with self._search.slots.slot(Deadline(SECONDS)):
            pixels = read_photo(path, size=side, exif=facts["exif"], max_pixels=facts["max_pixels"])
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
        return file.getvalue()


class Cache:
    """A thread-safe cache of byte strings that evicts the least recently used entries.

    Args:
        limit: maximum size of all entries in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes, self._lock = limit, 0, threading.Lock()
        self._kept: OrderedDict[Any, bytes] = OrderedDict()

    def get(self, key: Any) -> bytes | None:
        """Returns the bytes that are cached under a key; None if there are none."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Any, data: bytes) -> None:
        """Caches bytes under a key, and evicts the least recently used entries if the limit is exceeded."""
        with self._lock:
            self._bytes += len(data) - len(self._kept.pop(key, b""))
            self._kept[key] = data
            while self._bytes > self._limit:
                self._bytes -= len(self._kept.popitem(last=False)[1])
