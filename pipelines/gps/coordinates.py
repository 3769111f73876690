"""Latitudes, longitudes and other numbers in the forms in which cameras and programs write them into metadata.

The EXIF standard has three fractions for degrees, minutes and seconds, and a letter for the hemisphere. XMP has text
such as "50,5.2N". Cameras also write decimal degrees or minutes, text instead of fractions, lower-case letters or words
for the hemisphere, a sign instead of a letter, and fractions with the denominator 0 for parts that are not known.
"""

import math
import re

from keras_retrieval.errors import RetrievalError

from .exif import Value

MISSING_HEMISPHERE = "latitude or longitude without N, S, E or W"
WRONG_HEMISPHERE = "the letter N, S, E or W is another one, or contradicts the sign"
NOT_A_NUMBER = "a fraction with the denominator 0"
NOT_READABLE = "latitude or longitude is not a number"
CONTRADICTORY = "degrees with a fraction and minutes, or minutes with a fraction and seconds"
OUT_OF_RANGE = "latitude, longitude, minutes or seconds out of range"

_PART = re.compile(r"[+-]?\s*(?:\d+(?:\.\d*)?|\.\d+)(?:\s*/\s*\d+)?")
_UNITS = re.compile(
    r"(?:degrees|deg|minutes|min|seconds|sec|[\s,;:°º\u02da'\u2019\u2032\"\u201d\u2033dm()\[\]])*", re.IGNORECASE
)
_WORDS = "(?:north|south|east|west|[NSEW])"
_SIDE = re.compile(_WORDS, re.IGNORECASE)
_OUTER_SIDE = re.compile(rf"^\s*{_WORDS}(?![a-z])|(?<![a-z]){_WORDS}\s*$", re.IGNORECASE)
_SMALL = 1e-9  # parts of a degree below this are rounding errors, 0.1 mm


class CoordinateError(RetrievalError, ValueError):
    """Internal: a coordinate in a photo's metadata cannot be used. The text is one of the reasons of this module."""


def coordinate(value: Value, reference: Value | None, sides: str, missing: str = "") -> float:
    """Reads a latitude or longitude.

    Args:
        value: degrees, minutes and seconds as numbers or text; minutes and seconds may be missing.
        reference: the letter of the hemisphere; None if there is none.
        sides: the letters of the positive and the negative hemisphere, "NS" or "EW".
        missing: the hemisphere, a letter of `sides`, of a number that has neither a letter nor a sign; "" if such a
            number is an error.

    Returns:
        Degrees in -90..90 or -180..180.

    Raises:
        CoordinateError: the value is not a coordinate, is out of range, or its hemisphere is unknown.
    """
    written = ""
    if isinstance(value, tuple):
        parts = list(value)
    else:
        parts, written = _parts_of_text(plain_text(value))
    if not 1 <= len(parts) <= 3:
        raise CoordinateError(NOT_READABLE)
    degrees, negative = _degrees(parts)
    letters = {letter for letter in (_letter(reference), written) if letter}
    if len(letters) > 1 or not letters <= set(sides):
        raise CoordinateError(WRONG_HEMISPHERE)
    side = letters.pop() if letters else sides[1] if negative else missing
    if not side:
        raise CoordinateError(MISSING_HEMISPHERE)
    if negative and side == sides[0]:
        raise CoordinateError(WRONG_HEMISPHERE)
    if degrees > (90 if sides == "NS" else 180):
        raise CoordinateError(OUT_OF_RANGE)
    return -degrees + 0.0 if side == sides[1] else degrees


def _degrees(parts: list[float]) -> tuple[float, bool]:
    """The absolute value in degrees, and whether the value is negative."""
    known = [part for part in parts if math.isfinite(part)]
    if len(known) < len(parts):
        # 0/0 for seconds after minutes with a fraction: these are decimal minutes.
        if not known or parts[: len(known)] != known or known[-1] == int(known[-1]):
            raise CoordinateError(NOT_A_NUMBER)
        parts = known
    whole, minutes, seconds = [abs(part) for part in [*parts, 0.0, 0.0][:3]]
    if minutes > 60 or seconds > 60:
        raise CoordinateError(OUT_OF_RANGE)
    for part, next_part in ((whole, max(minutes, seconds)), (minutes, seconds)):
        if next_part > _SMALL and abs(part - round(part)) > _SMALL:
            raise CoordinateError(CONTRADICTORY)
    signs = [part < 0 for part in parts if part]
    if any(signs) and not all(signs) and signs != [True] + [False] * (len(signs) - 1):
        raise CoordinateError(WRONG_HEMISPHERE)
    return whole + minutes / 60 + seconds / 3600, any(signs)


def _letter(reference: Value | None) -> str:
    """The letter of a hemisphere; "" if there is none.

    Raises:
        CoordinateError: the reference is not a letter of a hemisphere.
    """
    if reference is None or isinstance(reference, tuple):
        # Some programs write the character's code as a number.
        reference = bytes(int(code) for code in reference or () if 0 < code < 256)
    text = plain_text(reference)
    if not text:
        return ""
    if not _SIDE.fullmatch(text):
        raise CoordinateError(WRONG_HEMISPHERE)
    return text[0].upper()


def _parts_of_text(text: str) -> tuple[list[float], str]:
    """The numbers in text such as "50,5.2N", and the letter of the hemisphere, or ""."""
    letters = _OUTER_SIDE.findall(text)
    if len(letters) > 1:
        raise CoordinateError(WRONG_HEMISPHERE)
    numbers = _OUTER_SIDE.sub(" ", text)
    if not _UNITS.fullmatch(_PART.sub(" ", numbers)):
        raise CoordinateError(NOT_READABLE)
    parts = [number(part) for part in _PART.findall(numbers)]
    return parts, letters[0].strip()[0].upper() if letters else ""


def number(text: str) -> float:
    """Converts text such as "12", "12.5" or "125/10" to a number; NaN if it is not one or the denominator is 0."""
    above, _, below = text.replace(" ", "").partition("/")
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        return math.nan


def scalar(value: Value | None) -> float | None:
    """Reads a single number.

    Returns:
        The number; None if there is no number, or it is not finite.
    """
    if isinstance(value, tuple):
        found = value[0] if value else math.nan
    else:
        found = math.nan if value is None else number(plain_text(value))
    return found if math.isfinite(found) else None


def plain_text(value: Value | None) -> str:
    """The text of a value up to its first zero byte, without blanks around it; "" for numbers."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.partition("\0")[0].strip() if isinstance(value, str) else ""
