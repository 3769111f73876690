"""Makes responses smaller: 304 where the client has the content already, gzip where the client accepts it."""

import gzip
from collections.abc import Mapping

from .messages import Request, Response

SMALLEST = 1024  # bytes; gzip does not pay for smaller bodies
LEVEL = 5
TEXTS = ("application/json", "application/javascript", "application/manifest+json", "image/svg+xml")


def reduced(request: Request, response: Response) -> Response:
    """Replaces a response by a smaller one of the same meaning, if there is one.

    Args:
        request: the request.
        response: its response. If it has the header ETag, and the request's If-None-Match names this tag, the result is
            304 without a body. Text and JSON of at least 1 KiB are compressed if Accept-Encoding contains gzip.
    """
    tag = response.headers.get("ETag")
    if tag and response.status == 200 and has_current(request, tag):
        return Response(304, b"", response.content_type, response.headers)
    if "Content-Encoding" in response.headers or not _is_text(response.content_type):
        return response
    body = response.body.encode() if isinstance(response.body, str) else response.body
    if len(body) < SMALLEST:
        return response
    headers = {**response.headers, "Vary": "Accept-Encoding"}
    if accepts_gzip(request.headers):
        body, headers["Content-Encoding"] = gzip.compress(body, LEVEL, mtime=0), "gzip"
    return Response(response.status, body, response.content_type, headers)


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Returns whether the header Accept-Encoding of a request allows gzip, "gzip;q=0" meaning that it does not."""
    for offer in headers.get("accept-encoding", "").lower().split(","):
        coding, *parameters = (part.strip() for part in offer.split(";"))
        if coding in ("gzip", "x-gzip", "*"):
            quality = next((value.strip()[2:] for value in parameters if value.strip().startswith("q=")), "1")
            try:
                return float(quality) > 0
            except ValueError:
                return False
    return False


def has_current(request: Request, tag: str) -> bool:
    """Returns whether the client of a GET or HEAD request has the content with an entity tag, by If-None-Match."""
    if request.method not in ("GET", "HEAD"):
        return False
    known = [name.strip().removeprefix("W/") for name in request.headers.get("if-none-match", "").split(",")]
    return tag.removeprefix("W/") in known or "*" in known


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in TEXTS
