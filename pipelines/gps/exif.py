"""Reads the EXIF directories of a photo entry by entry, so that one damaged entry does not hide the others.

EXIF data has the layout of a TIFF file: a header and directories of tagged values. Pillow stops at the first entry
that points outside the data, and reports that as a warning only; this module skips such an entry and records it.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

Value = str | bytes | tuple[float, ...]
"""The value of an entry: text, bytes of unknown meaning, or numbers, with NaN for a fraction with denominator 0."""

_MAIN = {0x8769: "ExifIFD", 0x8825: "GPSIFD", 700: "XMP"}
_EXIF = {
    0x9003: "DateTimeOriginal",
    0x9004: "DateTimeDigitized",
    0x9011: "OffsetTimeOriginal",
    0x9012: "OffsetTimeDigitized",
}
_GPS = {
    1: "GPSLatitudeRef",
    2: "GPSLatitude",
    3: "GPSLongitudeRef",
    4: "GPSLongitude",
    5: "GPSAltitudeRef",
    6: "GPSAltitude",
    7: "GPSTimeStamp",
    11: "GPSDOP",
    16: "GPSImgDirectionRef",
    17: "GPSImgDirection",
    18: "GPSMapDatum",
    29: "GPSDateStamp",
    31: "GPSHPositioningError",
}
# The numeric types by their numbers in TIFF: the format of `struct`, and how many of these make one value.
_NUMBERS = {
    3: ("H", 1), 4: ("I", 1), 5: ("I", 2), 8: ("h", 1), 9: ("i", 1), 10: ("i", 2), 11: ("f", 1), 12: ("d", 1),
    13: ("I", 1), 16: ("Q", 1), 17: ("q", 1), 18: ("Q", 1),
}  # fmt: skip
_TEXT = (2, 129)  # ASCII, and the UTF-8 of EXIF 3.0
_BYTES = (1, 6, 7)
_MOST_ENTRIES = 4096
_MOST_BYTES = 1 << 20  # XMP in a TIFF is longer than any EXIF value


@dataclass(frozen=True)
class Exif:
    """The entries of EXIF data that matter for positions and times.

    Attributes:
        entries: maps the names of the entries in the EXIF standard, such as "GPSLatitude", to their values.
        damaged: whether a directory or one of these entries cannot be read.
    """

    entries: Mapping[str, Value]
    damaged: bool


def read_exif(file: IO[bytes]) -> Exif:
    """Reads EXIF data.

    Args:
        file: a binary file that begins with the header of EXIF data, as a TIFF photo does.

    Returns:
        The entries; without entries and `damaged` if the header is not one of EXIF data.
    """
    layout = _Layout.of(file)
    if layout is None:
        return Exif({}, damaged=True)
    found, damaged = layout.directory(layout.first, _MAIN | _EXIF)
    for pointer, names in (("ExifIFD", _EXIF), ("GPSIFD", _GPS)):
        offset = found.pop(pointer, None)
        if offset is None:
            continue
        if not isinstance(offset, tuple) or not offset or not math.isfinite(offset[0]):
            damaged = True
            continue
        more, broken = layout.directory(int(offset[0]), names)
        found |= more
        damaged |= broken
    return Exif(found, damaged)


@dataclass(frozen=True)
class _Layout:
    """The byte order and the widths of offsets in EXIF data, which are 8 bytes in BigTIFF and otherwise 4."""

    file: IO[bytes]
    order: str
    big: bool
    first: int

    @classmethod
    def of(cls, file: IO[bytes]) -> "_Layout | None":
        file.seek(0)
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            return None
        (version,) = struct.unpack_from(f"{order}H", head, 2)
        if version == 43 and len(head) == 16:
            return cls(file, order, True, struct.unpack_from(f"{order}Q", head, 8)[0])
        return cls(file, order, False, struct.unpack_from(f"{order}I", head, 4)[0]) if version == 42 else None

    def directory(self, offset: int, names: Mapping[int, str]) -> tuple[dict[str, Value], bool]:
        """Reads a directory: the values of the entries in `names`, and whether it is damaged."""
        count_format, entry_format = ("Q", "HHQ8s") if self.big else ("H", "HHI4s")
        head = self._read(offset, struct.calcsize(f"{self.order}{count_format}"))
        if head is None:
            return {}, True
        (count,) = struct.unpack(f"{self.order}{count_format}", head)
        width = struct.calcsize(f"{self.order}{entry_format}")
        wanted = min(count, _MOST_ENTRIES) * width
        content = self.file.read(wanted)
        damaged = count > _MOST_ENTRIES or len(content) < wanted
        found: dict[str, Value] = {}
        for start in range(0, len(content) - width + 1, width):
            tag, kind, values, inline = struct.unpack_from(f"{self.order}{entry_format}", content, start)
            name = names.get(tag)
            if name is None or name in found:
                continue
            value = self._value(kind, values, inline)
            if value is None:
                damaged = True
            else:
                found[name] = value
        return found, damaged

    def _value(self, kind: int, count: int, inline: bytes) -> Value | None:
        """The value of an entry; None if it is outside the data or of an unknown type."""
        form, parts = _NUMBERS.get(kind, ("", 1))
        if not form and kind not in _TEXT + _BYTES:
            return None
        size = count * (struct.calcsize(f"{self.order}{form}") * parts if form else 1)
        content: bytes | None = inline[:size]
        if size > len(inline):
            (offset,) = struct.unpack(f"{self.order}{'Q' if self.big else 'I'}", inline)
            content = self._read(offset, size) if size <= _MOST_BYTES else None
        if content is None:
            return None
        if not form:
            return content.decode("utf-8", "replace") if kind in _TEXT else content
        numbers = struct.unpack(f"{self.order}{count * parts}{form}", content)
        if parts == 1:
            return tuple(float(number) for number in numbers)
        return tuple(
            above / below if below else math.nan for above, below in zip(numbers[::2], numbers[1::2], strict=True)
        )

    def _read(self, offset: int, size: int) -> bytes | None:
        if offset >= 1 << 62:
            return None
        self.file.seek(offset)
        content = self.file.read(size)
        return content if len(content) == size else None
