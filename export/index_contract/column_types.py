"""The types of columns: text, number, time, and list of texts. An index stores the type of each of its columns.

Values are texts in every index, in one form for each type: a number as Python writes it, a time as it was given (ISO
8601, or a part of it such as 2017-07), a list as JSON. The empty text is the value of a photo without one.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_retrieval.pipelines.files.number_text import NumberError, NumberReader

from keras_retrieval.errors import ArgumentError

from .photo_time import time_span

TEXT, NUMBER, TIME, TEXTS = "text", "number", "time", "texts"
COLUMN_TYPES = (TEXT, NUMBER, TIME, TEXTS)
NOUNS = {TEXT: "a text", NUMBER: "a number", TIME: "a time such as 2017-07-18T10:30:00", TEXTS: "a list of texts"}
TYPES = "column_types"
"""Entry of an index's metadata: the type of each column by name. Indexes without it have texts only."""

_IDENTIFIER = re.compile(r"[+-]?0[0-9].*|[+-]?[0-9]{16,}")  # postal codes, numbers of articles: not to calculate with
_UNEXACT = 10**15  # from here on, a float may not be exactly the number that was meant
_SEPARATOR = ";"


def type_of(facts: Mapping[str, Any], column: str) -> str:
    """Returns the type of a column of an index, of which `facts` is the metadata."""
    return str(facts.get(TYPES, {}).get(column, TEXT))


def infer_type(values: Sequence[Any]) -> str:
    """Chooses the type that all values of a column have; empty values have every type.

    A number with leading zeros or more than 15 digits is a text, as postal codes and other identifiers are. A year
    alone is a number.

    Args:
        values: texts, or values of JSON.
    """
    given = [value for value in values if value not in (None, "", [])]
    if not given:
        return TEXTS if any(value == [] for value in values) else TEXT
    if all(isinstance(value, list) and all(isinstance(text, str) for text in value) for value in given):
        return TEXTS
    if all(_is_number(value) for value in given):
        return TEXT if any(isinstance(value, int) and abs(value) >= _UNEXACT for value in given) else NUMBER
    texts = [value.strip() for value in given if isinstance(value, str)]
    if len(texts) < len(given):
        return TEXT
    if not any(_IDENTIFIER.fullmatch(text) for text in texts) and _all_readable(texts):
        return NUMBER
    if all(map(time_span, texts)) and not all(map(str.isdecimal, texts)):
        return TIME
    return TEXTS if all(text.startswith("[") and _list(text) is not None for text in texts) else TEXT


def converter(kind: str, values: Sequence[Any]) -> Callable[[Any], str]:
    """Returns a function that converts the values of a column to the texts that an index stores.

    Args:
        kind: the type of the column, one of `COLUMN_TYPES`.
        values: all values, which decide whether numbers have a decimal comma.

    Returns:
        A function that raises ArgumentError for a value that is not of the type.
    """
    reader = NumberReader([text for text in values if isinstance(text, str) and text.strip()] if kind == NUMBER else [])

    def convert(value: Any) -> str:
        if value is None or value == "" or (value == [] and kind != TEXT):
            return ""
        try:
            text = _FORMS[kind](value, reader)
        except NumberError as error:
            raise ArgumentError(str(error)) from None
        if text is None:
            raise ArgumentError(f"it must be {NOUNS[kind]}, got {value!r}")
        return text

    return convert


def number_of(kind: str, text: str) -> float:
    """Returns the number by which values of a column are ordered: of a time its first second; NaN without one."""
    if not text:
        return math.nan
    if kind == TIME:
        span = time_span(text)
        return math.nan if span is None else span[0]
    try:
        return float(text)
    except ValueError:
        return math.nan


def texts_of(kind: str, text: str) -> list[str]:
    """Returns the texts of a list, and of another value this value; [] without a value."""
    if not text:
        return []
    return list(json.loads(text)) if kind == TEXTS else [text]


def number_text(number: float) -> str:
    """Returns a finite number in the form in which it is stored, such as 1999 or 1.5."""
    whole = int(number)
    short = isinstance(number, int) or abs(whole) < _UNEXACT
    return str(whole) if whole == number and short else repr(float(number))


def _text(value: Any, reader: NumberReader) -> str | None:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: Any, reader: NumberReader) -> str | None:
    if isinstance(value, str):
        number = reader.read(value.strip()) if value.strip() else None
    else:
        number = value if _is_number(value) else None
    return None if number is None or not math.isfinite(number) else number_text(number)


def _time(value: Any, reader: NumberReader) -> str | None:
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if time_span(text) else None


def _texts(value: Any, reader: NumberReader) -> str | None:
    found = _list(value) if isinstance(value, str) else value
    if found is None or not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
        return None
    return json.dumps(list(dict.fromkeys(found)), ensure_ascii=False) if found else ""


_FORMS: dict[str, Callable[[Any, NumberReader], str | None]] = {
    TEXT: _text, NUMBER: _number, TIME: _time, TEXTS: _texts
}  # fmt: skip


def _list(text: str) -> list[Any] | None:
    """The texts of a cell: a JSON list, or texts between semicolons."""
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(_SEPARATOR) if part.strip()]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(part, str) for part in found) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308


def _all_readable(texts: Sequence[str]) -> bool:
    reader = NumberReader(texts)
    try:
        return all(math.isfinite(reader.read(text)) for text in texts)
    except NumberError:
        return False
