"""Finds the EXIF and XMP metadata of an open photo of any format that is read here."""

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from io import BytesIO
from typing import IO

from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .exif import Value, read_exif

_HEADERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_PROFILES = ("Raw profile type exif", "Raw profile type APP1", "Raw profile type xmp")
_XMP_NAMES = (
    "GPSLatitude", "GPSLongitude", "GPSLatitudeRef", "GPSLongitudeRef", "GPSAltitude", "GPSAltitudeRef",
    "GPSImgDirection", "GPSImgDirectionRef", "GPSMapDatum", "GPSDOP", "GPSHPositioningError", "GPSTimeStamp",
    "DateTimeOriginal", "DateTimeDigitized",
)  # fmt: skip
# Repetitions are bounded, so that the time for a malicious packet grows with its length only.
_VALUE = 200
_XMP_ENTRY = re.compile(
    rf"\bexif:({'|'.join(_XMP_NAMES)})(?:\s{{0,9}}=\s{{0,9}}(?:\"([^\"]{{0,{_VALUE}}})\"|'([^']{{0,{_VALUE}}})')"
    rf"|(?:\s[^<>]{{0,{_VALUE}}})?>([^<]{{0,{_VALUE}}})</)"
)
_LONGEST = 16 << 20  # bytes of metadata in one chunk of a PNG


@dataclass(frozen=True)
class Metadata:
    """The metadata of a photo.

    Attributes:
        exif: the entries of the EXIF data by their names in the standard, such as "GPSLatitude".
        xmp: the entries of the XMP data with the namespace exif, by the same names.
        present: whether the photo has EXIF or XMP data.
        damaged: whether a part of the EXIF data cannot be read.
    """

    exif: Mapping[str, Value] = field(default_factory=dict)
    xmp: Mapping[str, Value] = field(default_factory=dict)
    present: bool = False
    damaged: bool = False


def read_metadata(image: ImageFile) -> Metadata:
    """Reads the metadata of a photo without decoding the photo.

    Args:
        image: the photo, as `photos.formats.open_photo` opens it.
    """
    if isinstance(image, TiffImageFile):
        exif = read_exif(_file(image))
        packet = _bytes(exif.entries.get("XMP"))
        entries = {name: value for name, value in exif.entries.items() if name != "XMP"}
        return Metadata(entries, _xmp_entries(packet), bool(entries or packet), exif.damaged)
    blobs, packets = [_bytes(image.info.get("exif"))], [_bytes(image.info.get("xmp"))]
    if isinstance(image, PngImageFile):
        for content in _png_metadata(image):
            (packets if b"<x:xmpmeta" in content or b"<rdf:RDF" in content else blobs).append(content)
    blob, packet = max(blobs, key=len), max(packets, key=len)
    if not blob:
        return Metadata({}, _xmp_entries(packet), bool(packet))
    starts = [start for header in _HEADERS if (start := blob.find(header, 0, 64)) >= 0]
    exif = read_exif(BytesIO(blob[min(starts, default=0) :]))
    entries = {name: value for name, value in exif.entries.items() if name != "XMP"}
    return Metadata(entries, _xmp_entries(packet), True, exif.damaged)


def _file(image: ImageFile) -> IO[bytes]:
    assert image.fp is not None, "the photo is open"
    return image.fp


def _bytes(content: object) -> bytes:
    return content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else b""


def _xmp_entries(packet: bytes) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for match in _XMP_ENTRY.finditer(packet.decode("utf-8", "replace")):
        found.setdefault(match[1], unescape(next(filter(None, match.groups()[1:]), "")))
    return found


def _png_metadata(image: PngImageFile) -> Iterator[bytes]:
    """Yields the EXIF and XMP data that Pillow does not return, such as those after the pixels."""
    for key in _PROFILES:
        if text := image.info.get(key):
            try:
                yield bytes.fromhex("".join(str(text).split("\n")[3:]))
            except ValueError:
                continue
    for kind, content in _png_chunks(_file(image)):
        if kind == b"eXIf":
            yield content
        elif content.startswith(_XMP_KEYWORD + b"\0"):
            yield _international_text(content)


def _png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yields the type and the content of each chunk eXIf and iTXt."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        end = file.tell() + size + 4
        if kind in (b"eXIf", b"iTXt") and size <= _LONGEST:
            yield kind, file.read(size)
        if kind == b"IEND":
            return
        file.seek(end)


def _international_text(content: bytes) -> bytes:
    """The text of an iTXt chunk, whose keyword is followed by flags, a language and the keyword in that language."""
    packed, rest = content[len(_XMP_KEYWORD) + 1 : len(_XMP_KEYWORD) + 2] == b"\1", content[len(_XMP_KEYWORD) + 3 :]
    text = rest.split(b"\0", 2)[-1]
    if not packed:
        return text
    try:
        return zlib.decompressobj().decompress(text, _LONGEST)
    except zlib.error:
        return b""
