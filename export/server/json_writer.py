"""Writes JSON with the bytes that TensorFlow Serving writes: those of RapidJSON's PrettyWriter.

An array is written on one line or with one line per element, depending on the response; objects have one line per
member. Numbers are written as `decimals` says. Strings are not changed to ASCII. Unlike TensorFlow Serving's, they are
always UTF-8, so that the text is JSON.
"""

import base64
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from ..http.messages import LONGEST_ECHO
from .json_reader import members, to_bytes

INDENT = b"    "
NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
WHOLE_TOKEN = 64  # bytes; a longer string in an error message is cut

_SPECIAL = re.compile(rb'["\\\x00-\x1f]')
_NAMED = {b'"': b'\\"', b"\\": b"\\\\", b"\b": b"\\b", b"\f": b"\\f", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}


def quoted(text: bytes) -> bytes:
    """Writes a string; bytes that are not UTF-8 are replaced by U+FFFD."""
    if not text.isascii():
        text = text.decode("utf-8", "replace").encode()
    return b'"%s"' % _SPECIAL.sub(_escaped, text)


def _escaped(found: re.Match[bytes]) -> bytes:
    return _NAMED.get(found.group()) or b"\\u%04X" % found.group()[0]


def error_text(message: str) -> bytes:
    """Writes the JSON object {"error": message}."""
    return b'{\n    "error": %s\n}' % quoted(to_bytes(message))


def decimals(values: np.ndarray) -> list[bytes]:
    """Writes floating-point numbers: with 6 digits if they identify the number, otherwise with 9 (float32) or 17.

    Args:
        values: float32 or float64 numbers of any shape.
    """
    flat = values.reshape(-1)
    full = "%.9g" if values.dtype == np.float32 else "%.17g"
    numbers = flat.tolist()
    texts = ("%g," * len(numbers) % tuple(numbers)).split(",")[:-1]
    with np.errstate(over="ignore"):
        exact = np.array(list(map(float, texts)), np.float64).astype(values.dtype) == flat
    for index in np.flatnonzero(~exact).tolist():
        texts[index] = full % numbers[index]
    return [text.encode() if "." in text else _decimal(text) for text in texts]


def _decimal(text: str) -> bytes:
    if text in NOT_FINITE:
        return NOT_FINITE[text].encode()
    return (text if "e" in text else text + ".0").encode()


def byte_string(value: bytes, depth: int) -> bytes:
    """Writes {"b64": ...}, inside `depth` arrays and objects."""
    outer = INDENT * depth
    return b'{\n%s%s"b64": "%s"\n%s}' % (outer, INDENT, base64.b64encode(value), outer)


def one_line(tokens: Sequence[bytes], shape: Sequence[int], first: int = 0) -> list[bytes]:
    """Writes arrays on one line.

    Args:
        tokens: text of each number or string.
        shape: shape of the tensor that they form.
        first: axis from which on arrays are written.

    Returns:
        One text for each index into the axes before `first`.
    """
    for axis in range(len(shape) - 1, first - 1, -1):
        tokens = [b"[%s]" % b", ".join(group) for group in _groups(tokens, shape, axis)]
    return list(tokens)


def one_per_line(tokens: Sequence[bytes], shape: Sequence[int], depth: int) -> bytes:
    """Writes an array with one line per element, inside `depth` arrays and objects. See `one_line`."""
    for axis in range(len(shape) - 1, -1, -1):
        outer = INDENT * (depth + axis)
        separator = b",\n" + outer + INDENT
        tokens = [
            b"[\n%s%s\n%s]" % (outer + INDENT, separator.join(group), outer) if group else b"[]"
            for group in _groups(tokens, shape, axis)
        ]
    return tokens[0]


def _groups(tokens: Sequence[bytes], shape: Sequence[int], axis: int) -> Iterator[Sequence[bytes]]:
    size = shape[axis]
    return (tokens[group * size : group * size + size] for group in range(math.prod(shape[:axis])))


def elements(texts: Sequence[bytes]) -> bytes:
    """Writes an array of texts on one line, apart from its end, as TensorFlow Serving writes rows of a batch."""
    return b"[%s\n    ]" % b", ".join(texts) if texts else b"[]"


def objects(rows: Iterable[Mapping[str, bytes]]) -> bytes:
    """Writes an array of objects, inside one object."""
    texts = [named(row, 2) for row in rows]
    return b"[\n        %s\n    ]" % b",\n        ".join(texts) if texts else b"[]"


def named(texts: Mapping[str, bytes], depth: int) -> bytes:
    """Writes an object, inside `depth` arrays and objects."""
    outer = INDENT * depth
    lines = [b"%s%s: %s" % (INDENT, quoted(to_bytes(name)), text) for name, text in texts.items()]
    return b"{\n%s%s\n%s}" % (outer, (b",\n" + outer).join(lines), outer)


def debug_text(value: Any) -> str:
    """Writes a JSON value for an error message: at most about LONGEST_ECHO bytes, so that it may end anywhere.

    As in TensorFlow Serving, writing stops before the first number, string or bracket after that length, and at a
    number that is not finite.
    """
    return bytes(_Excerpt().write(value)).decode("utf-8", "ignore")


class _Excerpt:
    def __init__(self) -> None:
        self._text = bytearray()
        self._levels: list[_Level] = []

    def write(self, value: Any) -> bytearray:
        """Writes a value without recursion."""
        if not self._token(value):
            return self._text
        while self._levels:
            level = self._levels[-1]
            item = next(level.items, _END)
            if item is _END:
                if not self._close(level):
                    return self._text
            elif not self._token(item):
                return self._text
        return self._text

    def _token(self, value: Any) -> bool:
        """Writes a number or string, or the start of an array or object; returns whether to continue."""
        if len(self._text) >= LONGEST_ECHO:
            return False
        self._prefix()
        if isinstance(value, list):
            self._text += b"["
            self._levels.append(_Level(iter(value), False))
        elif isinstance(value, dict):
            self._text += b"{"
            self._levels.append(_Level((part for pair in members(value) for part in pair), True))
        elif isinstance(value, float) and not math.isfinite(value):
            return False
        else:
            self._add(_scalar(value))
        return True

    def _add(self, token: bytes) -> None:
        room = LONGEST_ECHO - len(self._text)
        self._text += token if len(token) <= max(room, WHOLE_TOKEN) else token[: max(room, 0)]

    def _prefix(self) -> None:
        if not self._levels:
            return
        level, indent = self._levels[-1], INDENT * len(self._levels)
        if not level.is_object:
            self._text += b", " if level.count else b""
        elif level.count % 2:
            self._text += b": "
        else:
            self._text += (b",\n" if level.count else b"\n") + indent
        level.count += 1

    def _close(self, level: "_Level") -> bool:
        if len(self._text) >= LONGEST_ECHO:
            return False
        self._levels.pop()
        if level.is_object and level.count:
            self._text += b"\n" + INDENT * len(self._levels)
        self._text += b"}" if level.is_object else b"]"
        return True


class _Level:
    def __init__(self, items: Iterator[Any], is_object: bool) -> None:
        self.items, self.is_object, self.count = items, is_object, 0


_END = object()


def _scalar(value: Any) -> bytes:
    if isinstance(value, str):
        return quoted(to_bytes(value[:LONGEST_ECHO]))
    if value is None or isinstance(value, bool):
        return {None: b"null", True: b"true", False: b"false"}[value]
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return b"%d" % value
    return _double(float(value))


def _double(value: float) -> bytes:
    """Writes a finite double-precision number as RapidJSON does, with the fewest digits that identify it."""
    if value == 0:
        return b"-0.0" if math.copysign(1, value) < 0 else b"0.0"
    _, parts, exponent = Decimal(repr(abs(value))).normalize().as_tuple()
    assert isinstance(exponent, int)
    digits, sign = "".join(map(str, parts)), "-" if value < 0 else ""
    point = len(digits) + exponent
    if exponent >= 0 and point <= 21:
        text = digits + "0" * exponent + ".0"
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        text = f"{digits[0]}{'.' + digits[1:] if len(digits) > 1 else ''}e{point - 1}"
    return (sign + text).encode()
