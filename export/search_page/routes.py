"""Answers the HTTP requests of the search page."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import numpy as np
from keras_retrieval.pipelines.photos.reader import MAX_PIXELS, PhotoError

from ..contract.signatures import REASONS
from ..http.content import has_current
from ..http.messages import NOT_FOUND, Request, Response, error_response, etag, json_response, shortened
from .catalogue import Catalogue
from .errors import BadRequestError, NotReadyError
from .filters import filter_from_query, flag
from .listings import Listing, Listings, Order
from .page_files import page, static_file
from .photo_files import PhotoFiles
from .probabilities import Judging, no_judge
from .search_request import parse_search
from .searches import search
from .source import PhotoSource
from .stack_finder import StackFinder
from .stacks import Stacks
from .summaries import MOST_CELLS, summary, times, values
from .thumbnails import SIDES, Thumbnails
from .verification import HitVerifier

DOCUMENTS = (
    "/about.json", "/status.json", "/photos.json", "/names.json", "/row.json", "/summary.json", "/values.json",
    "/left_out.json",
)  # fmt: skip
STATIC, THUMBNAILS, PHOTOS = "/static/", "/thumbnails/", "/photos/"
MOST_PHOTOS = 2_000  # of a listing in one response
UPLOAD_BYTES = 64 * 2**20
LARGEST_SEARCH = 4 * UPLOAD_BYTES // 3 + 2**20  # bytes of a search with a photo in base64
SHOWN_BY_BROWSERS = {
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
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_STATUS = (
    "state", "step", "steps", "label", "done", "total", "rate", "seconds_left", "photos", "searchable", "left_out",
    "message",
)  # fmt: skip
_TRAINING = ("state", "before", "after", "measure", "message")
_ORDERS = ("name", "time", "time-desc")


def is_path_of_page(path: str) -> bool:
    """Returns whether a path, below that of the page, is one of the page."""
    return path in DOCUMENTS or path in ("/", "/search.json") or path.startswith((STATIC, THUMBNAILS, PHOTOS))


class SearchPage:
    """Answers the requests of a search page. Several threads may use it.

    Args:
        source: the collection that the page shows.
        title: title of the page; "" for the name of the photo folder.
        thumbnails: folder in which thumbnails are kept between runs; None to keep them in memory only.
        upload_bytes: maximum size of a photo of the user that is searched with, in bytes.
        verifier: verifies the first hits of searches by local features; None for no verification.
        judging: gives what judges hits by their probabilities.
    """

    def __init__(
        self,
        source: PhotoSource,
        *,
        title: str = "",
        thumbnails: Path | None = None,
        upload_bytes: int = UPLOAD_BYTES,
        verifier: HitVerifier | None = None,
        judging: Judging = no_judge,
    ) -> None:
        self._source, self._upload_bytes, self._verifier, self._judging = source, upload_bytes, verifier, judging
        self._title = title or source.folder.resolve().name or "Photos"
        self._files = PhotoFiles(source)
        self._thumbnails = Thumbnails(thumbnails)
        self._listings = Listings()
        self._stacks = StackFinder(source)
        self._documents: Mapping[str, Callable[[Mapping[str, Sequence[str]]], Any]] = dict(
            zip(DOCUMENTS, (
                self._about, self._status, self._photos, self._names, self._row, self._summary, self._values,
                self._left_out,
            ), strict=True)
        )  # fmt: skip

    def answer(self, request: Request) -> Response | None:
        """Answers a request.

        Args:
            request: the request, whose path is below the page's.

        Returns:
            The response; None if the path is not one of the page.
        """
        if not is_path_of_page(request.path):
            return None
        allowed = ("POST",) if request.path == "/search.json" else ("GET", "HEAD")
        if request.method not in allowed:
            refused = error_response(405, f"{shortened(request.path)} answers {' and '.join(allowed)} only.")
            return Response(405, refused.body, headers={"Allow": ", ".join(allowed)})
        try:
            return self._answer(request)
        except BadRequestError as error:
            return error_response(400, shortened(str(error)))
        except NotReadyError as error:
            return error_response(503, str(error))

    def close(self) -> None:
        """Stops the computation of stacks."""
        self._stacks.close()

    def _answer(self, request: Request) -> Response:
        path = request.path
        if path == "/":
            return _file(page(self._title).encode(), "text/html; charset=utf-8")
        if path == "/search.json":
            asked = parse_search(request.body)
            return json_response(
                search(self._source, self._files, asked, self._upload_bytes, self._verifier, self._judging)
            )
        for prefix, picture in ((THUMBNAILS, self._thumbnail), (PHOTOS, self._photo)):
            if path.startswith(prefix):
                return self._picture(request, picture, unquote(path.removeprefix(prefix), errors="surrogateescape"))
        if path.startswith(STATIC):
            found = static_file(path.removeprefix(STATIC))
            return NOT_FOUND if found is None else _file(*found)
        return json_response(self._documents[path](_parameters(request)), REVALIDATE | GUARD)

    # -- documents

    def _state(self) -> tuple[Catalogue, Stacks, str]:
        """The catalogue, its stacks, and the version of both."""
        catalogue = self._source.catalogue()
        stacks = self._stacks.stacks(catalogue)
        return catalogue, stacks, f"{catalogue.version}+{stacks.version}" if stacks else catalogue.version

    def _about(self, _: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        (catalogue, stacks, version), status = self._state(), self._source.status()
        problem = {"problem": status.message} if status.state == "failed" else {}
        return {
            "title": self._title,
            "folder": str(self._source.folder.resolve()),
            "photos": len(catalogue),
            "network": status.network,
            "size": status.size,
            "version": version,
            "has": {
                "times": catalogue.has_times,
                "positions": catalogue.has_positions,
                "folders": catalogue.has_folders,
                "columns": list(catalogue.columns),
                "stacks": bool(stacks),
                "training": status.training is not None,
            },
            "reasons": REASONS,
            "limits": {"upload_bytes": self._upload_bytes},
            **problem,
        }

    def _status(self, _: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        status, training = self._source.status(), None
        if status.training is not None:
            training = {name: _finite(getattr(status.training, name)) for name in _TRAINING}
        shown = {name: _finite(getattr(status, name)) for name in _STATUS}
        return {"version": self._state()[2], **shown, "training": training}

    def _listing(
        self, parameters: Mapping[str, Sequence[str]], order: str = ""
    ) -> tuple[Catalogue, Stacks, str, Listing]:
        """The listing that a request asks for, in another order than its own if one is given."""
        catalogue, stacks, version = self._state()
        order, member = order or _last(parameters, "sort") or "name", None
        if order not in _ORDERS:
            raise BadRequestError(f"sort must be one of {', '.join(_ORDERS)}, got {order!r}.")
        if stack_of := _last(parameters, "stack_of"):
            member = catalogue.row_of.get(stack_of)
            if member is None:
                raise BadRequestError(f"stack_of: {stack_of} is not among the photos.")
        stacked = flag(_last(parameters, "stacks"), "stacks") and member is None
        photos = filter_from_query(parameters)
        listing = self._listings.listing(catalogue, stacks, photos, cast("Order", order), stacked, member)
        return catalogue, stacks, version, listing

    def _photos(self, parameters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        catalogue, stacks, version, listing = self._listing(parameters)
        start = _whole(parameters, "start", 0, 0, None)
        count = _whole(parameters, "count", 200, 0, MOST_PHOTOS)
        shown, left_out = [], None
        part = slice(start, start + count)
        for row, size in zip(listing.rows[part].tolist(), listing.counts[part].tolist(), strict=True):
            stack = stacks.facts(row, size)
            facts = catalogue.facts(row) | ({} if stack is None else {"stack": stack})
            if not facts["searchable"]:
                left_out = self._source.left_out() if left_out is None else left_out
                facts |= {"left_out": left_out[facts["name"]]} if facts["name"] in left_out else {}
            shown.append(facts)
        return {"version": version, "total": len(listing.rows), "start": start, "photos": shown}

    def _names(self, parameters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The names of a listing's photos, all by default: what a user selects may be much more than the page shows."""
        catalogue, _, version, listing = self._listing(parameters)
        start = _whole(parameters, "start", 0, 0, None)
        count = _whole(parameters, "count", len(listing.rows), 0, None)
        rows = listing.rows[start : start + count].tolist()
        names = [catalogue.names[row] for row in rows]
        return {"version": version, "total": len(listing.rows), "start": start, "names": names}

    def _row(self, parameters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        catalogue, stacks, version, listing = self._listing(parameters)
        name = _last(parameters, "name")
        row = catalogue.row_of.get(name)
        if row is None:
            raise BadRequestError(f"name: {name or 'it is missing; no photo'} is not among the photos.")
        return {"version": version, "row": listing.place_of(row, stacks)}

    def _summary(self, parameters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        catalogue, _, version, listing = self._listing(parameters, "time")
        photos = filter_from_query(parameters)
        cells = _whole(parameters, "cells", 40, 1, MOST_CELLS)
        with_columns = flag(_last(parameters, "columns") or "1", "columns")
        found = summary(catalogue, photos.rows(catalogue), photos.area, cells, with_columns=with_columns)
        # The time line belongs to the listing by time, in which a stack is represented by its earliest photo.
        return found | {"version": version, "times": times(catalogue, np.sort(listing.rows))}

    def _values(self, parameters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The values of a column with some text in them, which a user can choose from."""
        catalogue, _, version = self._state()
        column, part = _last(parameters, "column"), _last(parameters, "part")
        count = _whole(parameters, "count", 20, 0, MOST_PHOTOS)
        rows = filter_from_query(parameters).rows(catalogue)
        return {"version": version, "column": column} | values(catalogue, column, rows, part, count)

    def _left_out(self, _: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        left_out = self._source.left_out()
        files = [{"name": name, "reason": reason} for name, reason in left_out.items()]
        return {"total": len(files), "files": files}

    # -- pictures

    def _picture(self, request: Request, picture: Callable[[Request, Path], tuple[bytes, str]], name: str) -> Response:
        path = self._files.path(name)
        if path is None:
            return NOT_FOUND
        try:
            facts = path.stat()
            tag = etag(name, facts.st_mtime_ns, facts.st_size, request.query)
            headers = {"ETag": tag, **KEEP, **GUARD}
            if has_current(request, tag):
                return Response(304, b"", headers=headers)
            data, content_type = picture(request, path)
        except (PhotoError, OSError):
            return NOT_FOUND
        return Response(200, data, content_type, headers)

    def _thumbnail(self, request: Request, path: Path) -> tuple[bytes, str]:
        side = _whole(_parameters(request), "side", SIDES[0], 1, None)
        if side not in SIDES:
            raise BadRequestError(f"side must be one of {', '.join(map(str, SIDES))}, got {side}.")
        return self._thumbnails.jpeg(path, side, **self._reading()), "image/jpeg"

    def _photo(self, _: Request, path: Path) -> tuple[bytes, str]:
        """Returns the unchanged file, or a JPEG of full size if browsers do not support the format of the file."""
        data = path.read_bytes()
        content_type = next((kind for start, kind in SHOWN_BY_BROWSERS.items() if data.startswith(start)), None)
        return (data, content_type) if content_type else (self._thumbnails.full(path, **self._reading()), "image/jpeg")

    def _reading(self) -> dict[str, Any]:
        index = self._source.index()
        facts = {} if index is None else index.facts
        return {"exif": facts.get("exif", True), "max_pixels": facts.get("max_pixels", MAX_PIXELS)}


def _file(content: bytes, content_type: str) -> Response:
    return Response(200, content, content_type, {"ETag": etag(content), **REVALIDATE, **GUARD})


def _finite(value: Any) -> Any:
    """Returns a value that JSON can contain: None for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parameters(request: Request) -> dict[str, list[str]]:
    try:
        return request.parameters()
    except ValueError as error:
        raise BadRequestError(f"The query of the address cannot be read: {error}.") from None


def _last(parameters: Mapping[str, Sequence[str]], name: str) -> str:
    return parameters[name][-1] if parameters.get(name) else ""


def _whole(parameters: Mapping[str, Sequence[str]], name: str, default: int, least: int, most: int | None) -> int:
    text = _last(parameters, name)
    if not text:
        return default
    limits = f"from {least} to {most}" if most is not None else f"of at least {least}"
    if not (text.isascii() and text.isdigit() and len(text) < 16) or not least <= int(text) <= (most or 10**15):
        raise BadRequestError(f"{name} must be a whole number {limits}, got {text!r}.")
    return int(text)
