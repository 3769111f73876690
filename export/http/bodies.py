"""The bodies of requests: their limits, the memory of all of them together, and gzip."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .errors import HttpRefusalError

SMALL = 2**20  # bytes; bodies up to this size are read however many others are in memory
HELD_BYTES = 2**28  # of larger bodies that are in memory at once
BOMB_BYTES, BOMB_RATIO = 2**24, 100  # a body that unzips to more than both, bytes and times its size, is refused
_PIECE = 2**18  # bytes that are unzipped in one step


@dataclass(frozen=True)
class BodyLimits:
    """Limits of the body of a request.

    Attributes:
        largest: maximum size in bytes as it is sent.
        largest_unzipped: maximum size in bytes of a gzip body when it is unzipped; None for `largest`.
        any_encoding: whether a Content-Encoding other than gzip is ignored, as TensorFlow Serving does, instead of
            refused.
    """

    largest: int
    largest_unzipped: int | None = None
    any_encoding: bool = False

    def check(self, size: int) -> None:
        """Checks the size of a body as it is sent, or of the part that has arrived.

        Raises:
            HttpRefusalError: it is too large; the status is 413.
        """
        if size > self.largest:
            raise HttpRefusalError(413, f"The body is larger than {self.largest} bytes")

    @property
    def unzipped(self) -> int:
        """The maximum size in bytes of an unzipped body."""
        return self.largest if self.largest_unzipped is None else self.largest_unzipped


class HeldBytes:
    """The memory that the bodies of all requests take, which is limited. One thread, that of the event loop, uses it.

    Args:
        most: maximum size in bytes of the bodies that are larger than `SMALL`.
    """

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    @contextmanager
    def body(self) -> Iterator["HeldBody"]:
        """Provides the memory of one request, which is released when the context exits."""
        body = HeldBody(self)
        try:
            yield body
        finally:
            self._held -= body.size

    def _add(self, size: int, whole: int) -> None:
        if self._held + size > self._most and whole > SMALL:
            raise HttpRefusalError(503, "The server holds too many bytes of other requests; try again")
        self._held += size


class HeldBody:
    """The memory of one request.

    Attributes:
        size: its size in bytes.
    """

    def __init__(self, held: HeldBytes) -> None:
        self._held, self.size = held, 0

    def add(self, size: int) -> None:
        """Counts further bytes.

        Raises:
            HttpRefusalError: too many bytes of other requests are in memory; the status is 503.
        """
        self._held._add(size, self.size + size)
        self.size += size


def is_gzip(encoding: str, limits: BodyLimits) -> bool:
    """Returns whether a body has to be unzipped.

    Args:
        encoding: the header Content-Encoding; "" if there is none.
        limits: the limits of the body.

    Raises:
        HttpRefusalError: the encoding is not supported; the status is 415.
    """
    text = encoding.lower()
    if limits.any_encoding:
        return "gzip" in text
    codings = [coding.strip() for coding in text.split(",")]
    named = [coding for coding in codings if coding not in ("", "identity")]
    if named not in ([], ["gzip"], ["x-gzip"]):
        raise HttpRefusalError(415, "Content-Encoding must be gzip or identity")
    return bool(named)


def unzipped_size(body: bytes, limits: BodyLimits) -> int:
    """Computes the size of a gzip body when it is unzipped, in constant memory.

    Raises:
        HttpRefusalError: it is too large, or many times larger than it is sent (413), or not in gzip format (400).
    """
    return sum(map(len, _pieces(body, limits)))


def unzipped(body: bytes, limits: BodyLimits) -> bytes:
    """Unzips a gzip body, whose size has been checked by `unzipped_size`."""
    return b"".join(_pieces(body, limits))


def _pieces(body: bytes, limits: BodyLimits) -> Iterator[bytes]:
    unzip, rest, size = zlib.decompressobj(zlib.MAX_WBITS | 16), body, 0
    while not unzip.eof:
        try:
            piece = unzip.decompress(rest, _PIECE)
        except zlib.error:
            raise HttpRefusalError(400, "The body is not in gzip format") from None
        rest, size = unzip.unconsumed_tail, size + len(piece)
        if size > limits.unzipped:
            raise HttpRefusalError(413, f"The unzipped body is larger than {limits.unzipped} bytes")
        if size > max(BOMB_BYTES, BOMB_RATIO * len(body)):
            raise HttpRefusalError(413, f"The unzipped body is larger than {BOMB_RATIO} times its size")
        if not piece and not rest and not unzip.eof:
            raise HttpRefusalError(400, "The gzip data of the body is truncated")
        yield piece
