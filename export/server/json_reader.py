"""Parses JSON as RapidJSON 1.1 does, which TensorFlow Serving uses.

Python's C parser reads the requests of ordinary clients. Requests for which the two could differ are read by
`_Reader`, which has RapidJSON's rules, error messages and offsets: parsing stops after the first value, so that further
bytes are ignored; NaN, Inf, Infinity and their negatives are numbers; nesting is not limited; strings may contain bytes
that are not UTF-8; integers beyond 64 bits are double-precision numbers; larger numbers than a double-precision number
can hold are errors.

Objects become dictionaries, in which the first of duplicate keys counts (see `Members`), arrays lists, strings `str`
with one surrogate for each byte that is not UTF-8 (`to_bytes` restores the bytes), numbers `int` or `float`.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import invalid

MOST_NESTED = 1_000_000  # arrays and objects inside each other, a limit of memory that RapidJSON does not have
MOST_DIGITS = 308  # digits of an integer that a double-precision number holds in any case
BLOCK, STEP = 128, 2**20
DOUBTFUL_EXPONENT = 290
CHECK_BYTES = 2**16  # of the text, between two calls of `check`
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Half of a surrogate pair without the other half, perhaps.
_LONE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_LARGE = re.compile(rb"[eE]\+?[0-9]{3}")  # a number that is perhaps too large
_WHITESPACE = re.compile(rb"[ \t\r\n]*")
_BRACKETS = re.compile(rb"(?:[ \t\r\n]*\[)*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(rb"(-?)(0|[1-9][0-9]*)")
_DIGITS = re.compile(rb"[0-9]*")
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
_ESCAPES = {b'"': b'"', b"/": b"/", b"\\": b"\\", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_WORDS: dict[bytes, tuple[bytes, Any]] = {b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False)}

NO_VALUE = "Invalid value."
NO_NAME = "Missing a name for object member."
NO_COLON = "Missing a colon after a name of object member."
NO_OBJECT_END = "Missing a comma or '}' after an object member."
NO_ARRAY_END = "Missing a comma or ']' after an array element."
NO_STRING_END = "Missing a closing quotation mark in string."
BAD_HEX = "Incorrect hex digit after \\u escape in string."
BAD_SURROGATE = "The surrogate pair in string is invalid."
BAD_ESCAPE = "Invalid escape character in string."
TOO_LARGE = "Number too big to be stored in double."
NO_FRACTION = "Miss fraction part in number."
NO_EXPONENT = "Miss exponent in number."
EMPTY = "The document is empty."


class Members(dict[str, Any]):
    """A JSON object with duplicate keys: the first of them counts for look-ups.

    Attributes:
        pairs: all members in the order of the text.
    """

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


def parse(body: bytes, check: Callable[[], None] = lambda: None) -> Any:
    """Parses a JSON text.

    Args:
        body: the text.
        check: function that raises an error if nobody waits for the result any more.

    Raises:
        ServingError: INVALID_ARGUMENT with RapidJSON's message and byte offset if the text is not valid; an error of
            `check`.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    if not (b"\\u" in body and _LONE.search(body)) and not _has_long_number(body):
        decoder = _CHECKING_DECODER if _LARGE.search(body) else _DECODER
        text = body.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "surrogateescape")
        try:
            value = decoder.raw_decode(text, len(text) - len(text.lstrip(" \t\r\n")))[0]
        except (ValueError, RecursionError):
            value = None  # the other reader accepts more, and knows RapidJSON's messages
        if isinstance(value, dict | list):
            return value
    return _Reader(body, check).read()


def members(value: dict[str, Any]) -> Sequence[tuple[str, Any]]:
    """Returns the members of a JSON object, including duplicates, in the order of the text."""
    return value.pairs if isinstance(value, Members) else list(value.items())


def to_bytes(text: str) -> bytes:
    """Returns the bytes of a JSON string: UTF-8, apart from the bytes that were not."""
    return text.encode("utf-8", "surrogateescape")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Members(pairs)


def _float(text: str) -> float:
    """Reads a number that is certainly not too large.

    Raises:
        JSONDecodeError: the other reader has to decide.
    """
    exponent = text.lower().partition("e")[2]
    if exponent and int(exponent) >= DOUBTFUL_EXPONENT:
        raise json.JSONDecodeError("A number that may be too large", text, 0)
    return float(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_CHECKING_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float)


def _has_long_number(body: bytes) -> bool:
    """Returns whether BLOCK digits in a row begin at a multiple of BLOCK, as in a run of over MOST_DIGITS digits."""
    for start in range(0, len(body) - BLOCK + 1, STEP):
        values = np.frombuffer(body, np.uint8, min(STEP, len(body) - start) // BLOCK * BLOCK, start)
        digits = values - np.uint8(ord("0")) <= 9
        if digits.reshape(-1, BLOCK).all(1).any():
            return True
    return False


class _Reader:
    """Reads one JSON value; see the module. `at` is the position of the next byte."""

    def __init__(self, body: bytes, check: Callable[[], None] = lambda: None) -> None:
        self.body, self.at, self._check = body, 0, check
        for byte in BYTE_ORDER_MARK:
            self.at += self.body[self.at : self.at + 1] == bytes([byte])

    def read(self) -> Any:
        self._space()
        if self._peek() in (b"", b"]", b"}", b",", b":"):
            raise self._error(EMPTY)
        value = self._value()
        if isinstance(value, _Open):
            self._fill(value)
            return value.value
        return value

    def _fill(self, outermost: "_Open") -> None:
        """Reads the contents of a container, and of all containers in it, without recursion."""
        stack, next_check = [outermost], CHECK_BYTES
        while stack:
            if self.at >= next_check:
                self._check()
                next_check = self.at + CHECK_BYTES
            container = stack[-1]
            self._space()
            if self._ends(container):
                stack.pop()
                if stack:
                    stack[-1].add(container.value)
                continue
            value = self._value()
            if not isinstance(value, _Open):
                container.add(value)
                continue
            stack.append(value)
            if value.pairs is None:
                stack += [_Open(is_object=False) for _ in range(self._brackets())]
            if len(stack) > MOST_NESTED:
                raise self._error(f"More than {MOST_NESTED} arrays and objects inside each other.")

    def _ends(self, container: "_Open") -> bool:
        """Reads up to the next value of a container, or over its end."""
        if self._peek() == container.end and not container.separated:
            self.at += 1
            return True
        if container.filled:
            if self._peek() != b",":
                raise self._error(container.no_end)
            self.at += 1
            container.filled, container.separated = False, True
            self._space()
        if container.pairs is not None:
            if self._peek() != b'"':
                raise self._error(NO_NAME)
            container.name = self._string()
            self._space()
            if self._peek() != b":":
                raise self._error(NO_COLON)
            self.at += 1
            self._space()
        return False

    def _value(self) -> Any:
        first = self._peek()
        if first == b'"':
            return self._string()
        if first == b"[" or first == b"{":
            self.at += 1
            return _Open(is_object=first == b"{")
        if first in _WORDS:
            word, value = _WORDS[first]
            self._take(word)
            return value
        return self._number()

    def _brackets(self) -> int:
        """Reads over further brackets that open arrays; returns their number."""
        found = _BRACKETS.match(self.body, self.at)
        assert found is not None
        self.at = found.end()
        return found.group().count(b"[")

    def _take(self, word: bytes) -> None:
        for byte in word:
            if self.body[self.at : self.at + 1] != bytes([byte]):
                raise self._error(NO_VALUE)
            self.at += 1

    def _string(self) -> str:
        self.at += 1
        parts = []
        while True:
            plain = _PLAIN.match(self.body, self.at)
            assert plain is not None
            parts.append(plain.group())
            self.at = plain.end()
            stop = self._peek()
            if stop == b'"':
                self.at += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if stop != b"\\":
                raise self._error(NO_STRING_END if stop == b"" else BAD_ESCAPE)
            parts.append(self._escape())

    def _escape(self) -> bytes:
        start = self.at
        kind = self.body[start + 1 : start + 2]
        self.at += 2
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        if kind != b"u":
            raise self._error(BAD_ESCAPE, start)
        code = self._hex4(start)
        if 0xD800 <= code < 0xDC00:
            if self.body[self.at : self.at + 2] != b"\\u":
                raise self._error(BAD_SURROGATE, start)
            self.at += 2
            low = self._hex4(start)
            if not 0xDC00 <= low < 0xE000:
                raise self._error(BAD_SURROGATE, start)
            code = ((code - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        return chr(code).encode("utf-8", "surrogatepass")

    def _hex4(self, start: int) -> int:
        found = _HEX4.match(self.body, self.at)
        if found is None:
            raise self._error(BAD_HEX, start)
        self.at += 4
        return int(found.group(), 16)

    def _number(self) -> int | float:
        start = self.at
        found = _NUMBER.match(self.body, start)
        if found is None:
            return self._not_finite()
        self.at, whole = found.end(), found[2]
        fits = len(whole) < 21 and -(2**63) <= int(found.group()) < 2**64
        if not fits and len(whole) > MOST_DIGITS and (len(whole) > MOST_DIGITS + 1 or _is_too_large(whole)):
            raise self._error(TOO_LARGE, start)
        scale = self._fraction(whole)
        has_exponent = self._exponent(start, scale or 0)
        text = self.body[start : self.at]
        return int(text) if fits and scale is None and not has_exponent else float(text)

    def _not_finite(self) -> float:
        minus = self._peek() == b"-"
        self.at += minus
        if self._peek() == b"N":
            self._take(b"NaN")
            return math.nan
        self._take(b"Inf")
        if self._peek() == b"i":
            self._take(b"inity")
        return -math.inf if minus else math.inf

    def _fraction(self, whole: bytes) -> int | None:
        """Reads a fraction; returns how many of its digits RapidJSON counts, None if there is no fraction."""
        if self._peek() != b".":
            return None
        self.at += 1
        digits = _DIGITS.match(self.body, self.at)
        assert digits is not None
        if not digits.group():
            raise self._error(NO_FRACTION)
        self.at = digits.end()
        zeros = len(digits.group()) - len(digits.group().lstrip(b"0")) if whole == b"0" else 0
        significant = 0 if whole == b"0" else len(whole)
        return min(len(digits.group()), zeros + max(17 - significant, 0))

    def _exponent(self, start: int, fraction: int) -> bool:
        if self._peek() not in (b"e", b"E"):
            return False
        self.at += 1
        sign = self._peek()
        self.at += sign in (b"+", b"-")
        digits = _DIGITS.match(self.body, self.at)
        assert digits is not None
        if not digits.group():
            raise self._error(NO_EXPONENT)
        self.at = digits.end()
        exponent = digits.group().lstrip(b"0")
        if sign != b"-" and len(digits.group()) > 1 and (len(exponent) > 9 or int(exponent or b"0") > 308 + fraction):
            raise self._error(TOO_LARGE, start)
        return True

    def _space(self) -> None:
        if self.body[self.at : self.at + 1] > b" ":
            return
        found = _WHITESPACE.match(self.body, self.at)
        assert found is not None
        self.at = found.end()

    def _peek(self) -> bytes:
        """Returns the next byte; b"" at the end, which a zero byte is, too."""
        byte = self.body[self.at : self.at + 1]
        return b"" if byte == b"\0" else byte

    def _error(self, message: str, at: int | None = None) -> Exception:
        return invalid(f"JSON Parse error: {message} at offset: {self.at if at is None else at}")


class _Open:
    """An array or object whose end has not been read yet.

    Attributes:
        value: the list, or the dictionary once the object is complete.
        pairs: members so far; None for an array.
        name: name of the member that is read next.
        end: byte that ends the container.
        no_end: message if neither a comma nor the end follows a value.
        filled: whether a value was read last.
        separated: whether a comma was read last.
    """

    __slots__ = ("_elements", "end", "filled", "name", "no_end", "pairs", "separated")

    def __init__(self, is_object: bool) -> None:
        self._elements: list[Any] = []
        self.pairs: list[tuple[str, Any]] | None = [] if is_object else None
        self.name = ""
        self.end, self.no_end = (b"}", NO_OBJECT_END) if is_object else (b"]", NO_ARRAY_END)
        self.filled = self.separated = False

    @property
    def value(self) -> Any:
        return self._elements if self.pairs is None else _object(self.pairs)

    def add(self, value: Any) -> None:
        if self.pairs is None:
            self._elements.append(value)
        else:
            self.pairs.append((self.name, value))
        self.filled, self.separated = True, False


def _is_too_large(digits: bytes) -> bool:
    """Returns whether RapidJSON refuses an integer of 309 digits: it is too large without its last digit."""
    return float(digits[:-1]) >= 1.7976931348623157e307
