"""Reads and checks the JSON document of a search."""

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

from .errors import BadRequestError
from .filters import PhotoFilter, filter_from_document
from .source import Box

MOST_QUERIES = 50
MOST_EXAMPLES = 1000  # liked, disliked or skipped photos
DEFAULT_K, MAX_K = 100, 10_000
FIELDS = ("queries", "like", "unlike", "filter", "k", "skip", "min_probability")


@dataclass(frozen=True)
class Query:
    """A photo to search with, of the collection or of the user.

    Attributes:
        photo: name of a photo of the collection; None for a photo of the user.
        file: content of the file of a photo of the user; None for a photo of the collection.
        box: part of the photo to search with; None for the whole photo.
    """

    photo: str | None
    file: bytes | None
    box: Box | None


@dataclass(frozen=True)
class SearchRequest:
    """A search.

    Attributes:
        queries: photos to search with.
        like: names of photos like which hits should be.
        unlike: names of photos like which hits should not be.
        photos: filter.
        k: maximum number of hits.
        skip: names of photos that must not be among the hits.
        min_probability: the least probability of a hit; None for that of the server.
    """

    queries: tuple[Query, ...]
    like: tuple[str, ...]
    unlike: tuple[str, ...]
    photos: PhotoFilter
    k: int
    skip: tuple[str, ...]
    min_probability: float | None = None


def parse_search(body: bytes) -> SearchRequest:
    """Parses the body of a request.

    Args:
        body: JSON object with the fields queries, like, unlike, filter, k, skip and min_probability, which are
            optional, but there must be a query or a liked photo. A query is {"photo": NAME} or {"file": BASE64}, with
            an optional field "box": [left, top, right, bottom] in pixels of the upright photo.

    Raises:
        BadRequestError: the body is not such an object; the message names the field.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"The body is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise BadRequestError("The body must be a JSON object.")
    for name in document:
        if name not in FIELDS:
            raise BadRequestError(f"There is no field {name!r}; the fields: {', '.join(FIELDS)}.")
    queries = document.get("queries") or []
    if not isinstance(queries, list):
        raise BadRequestError("queries must be a list.")
    if len(queries) > MOST_QUERIES:
        raise BadRequestError(f"queries must be at most {MOST_QUERIES}, got {len(queries)}.")
    like = _names(document, "like")
    if not queries and not like:
        raise BadRequestError("queries is empty: give a photo to search with, or like.")
    return SearchRequest(
        tuple(_query(query, f"queries[{number}]") for number, query in enumerate(queries)),
        like,
        _names(document, "unlike"),
        filter_from_document(document.get("filter")),
        _k(document.get("k", DEFAULT_K)),
        _names(document, "skip"),
        _probability(document.get("min_probability")),
    )


def _query(query: Any, where: str) -> Query:
    if not isinstance(query, dict):
        raise BadRequestError(f"{where} must be an object.")
    for name in query:
        if name not in ("photo", "file", "box"):
            raise BadRequestError(f"{where} has no field {name!r}; its fields: photo, file, box.")
    photo, file = query.get("photo"), query.get("file")
    if (photo is None) == (file is None):
        raise BadRequestError(f"{where} must have either photo or file.")
    for name, value in (("photo", photo), ("file", file)):
        if value is not None and not isinstance(value, str):
            raise BadRequestError(f"{where}.{name} must be a string.")
    return Query(photo, None if file is None else _bytes(file, f"{where}.file"), _box(query.get("box"), f"{where}.box"))


def _bytes(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(f"{where} must be the photo's file in base64: {error}.") from None


def _box(box: Any, where: str) -> Box | None:
    if box is None:
        return None
    numbers = isinstance(box, list) and len(box) == 4 and all(_is_number(side) for side in box)
    if not numbers:
        raise BadRequestError(f"{where} must be four numbers: left, top, right, bottom in pixels.")
    left, top, right, bottom = map(float, box)
    return left, top, right, bottom


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _names(document: dict[str, Any], field: str) -> tuple[str, ...]:
    names = document.get(field) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadRequestError(f"{field} must be a list of names of photos.")
    if len(names) > MOST_EXAMPLES:
        raise BadRequestError(f"{field} must be at most {MOST_EXAMPLES} names, got {len(names)}.")
    return tuple(dict.fromkeys(names))


def _probability(value: Any) -> float | None:
    if value is None:
        return None
    if not _is_number(value) or not 0 <= value < 1:
        raise BadRequestError("min_probability must be a number from 0 to below 1.")
    return float(value)


def _k(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_K:
        raise BadRequestError(f"k must be a whole number from 1 to {MAX_K:,}.")
    return value
