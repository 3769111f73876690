"""Serves all paths of a server below a prefix, so that a reverse proxy can share one host among several services."""

import re
from dataclasses import replace

from keras_retrieval.errors import ArgumentError

from .messages import NOT_FOUND, Answer, Request, Response

_SEGMENTS = re.compile(r"(/[A-Za-z0-9._~-]+)*")


def checked_base_path(text: str) -> str:
    """Checks a base path.

    Args:
        text: the option --base-path, such as "/photos"; a slash at the end is ignored.

    Returns:
        The base path without a slash at the end; "" for the root.

    Raises:
        ArgumentError: the path does not begin with a slash, or has characters other than letters, digits and "._~-".
    """
    base = text.rstrip("/")
    if not _SEGMENTS.fullmatch(base) or any(part in (".", "..") for part in base.split("/")):
        raise ArgumentError(
            f"--base-path must be a path such as /photos, of letters, digits and the characters . _ ~ -, got {text}"
        )
    return base


def below(base: str, answer: Answer) -> Answer:
    """Makes a function that answers requests below a base path.

    Args:
        base: base path from `checked_base_path`.
        answer: function that answers requests; it receives them without the base path.

    Returns:
        A function that redirects the base path without a slash to the one with a slash, because pages have relative
        URLs, and answers requests outside the base path with 404.
    """
    if not base:
        return answer

    def answer_below(request: Request) -> Response:
        if request.path == base:
            query = f"?{request.query}" if request.query else ""
            return Response(307, "", "text/plain", {"Location": f"{base}/{query}"})
        if not request.path.startswith(f"{base}/"):
            return NOT_FOUND
        return answer(replace(request, path=request.path[len(base) :]))

    return answer_below
