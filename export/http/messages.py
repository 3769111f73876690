"""HTTP requests and responses, independent of the server that transfers them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qs

LONGEST_ECHO = 256  # bytes of a request that a message repeats
MOST_PARAMETERS = 1000  # maximum number of parameters in the query of a URL


@dataclass(frozen=True)
class Request:
    """An HTTP request that has been read completely.

    Attributes:
        method: HTTP method, such as "GET".
        path: path of the URL as the client sent it, percent-encoded and without the query.
        query: query of the URL without the question mark; "" if there is none.
        headers: values of the headers, by name in lower case; values of repeated headers are joined with ", ".
        body: content, with gzip already undone.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def target(self) -> str:
        """The path with the query, if there is one."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def parameters(self) -> dict[str, list[str]]:
        """Decodes the query of the URL.

        Returns:
            The values of each parameter, by name, in their order.

        Raises:
            ValueError: there are more than 1,000 parameters.
        """
        return parse_qs(self.query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS, errors="surrogateescape")


@dataclass(frozen=True)
class Response:
    """An HTTP response.

    Attributes:
        status: HTTP status code.
        body: content; text is encoded as UTF-8.
        content_type: value of the header Content-Type.
        headers: further headers, by name.
    """

    status: int
    body: str | bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Answer: TypeAlias = Callable[[Request], Response]
"""Function that answers a request."""


def json_response(document: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Makes a response with status 200 from a document that can be serialized as JSON."""
    text = json.dumps(document, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Response(200, text, headers=dict(headers or {}))


def error_response(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """Makes a response to a request that fails: the JSON object {"error": reason}.

    Args:
        status: HTTP status code, 4xx or 5xx.
        reason: sentence for the user of the client.
        headers: headers of the response, by name.
    """
    return Response(status, json.dumps({"error": reason}, indent=4), headers=dict(headers or {}))


def shortened(text: str, most: int = LONGEST_ECHO) -> str:
    """Returns a part of a request for a message, of at most `most` bytes as UTF-8, its middle replaced by " .. "."""
    data = text.encode(errors="replace")
    if len(data) <= most:
        return text
    half = (most - 4) // 2
    return f"{data[:half].decode(errors='ignore')} .. {data[-half:].decode(errors='ignore')}"


NOT_FOUND = error_response(404, "There is nothing at this address.")


def etag(*parts: str | bytes | int) -> str:
    """Makes a weak entity tag, which changes with any of the parts.

    Returns:
        The value of the header ETag. It is weak because the same tag is sent with the gzip form of the content.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return f'W/"{digest.hexdigest()}"'
