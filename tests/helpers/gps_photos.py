"""Photos with EXIF and XMP data as cameras and programs write it, correct or not; EXIF is packed byte by byte."""

import io
import struct
import zlib
from typing import Any

from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12
FORMATS = ("JPEG", "PNG", "WebP", "TIFF", "AVIF", "HEIF")

Entry = tuple[int, Any]  # the type and the value: bytes, text, or a list of numbers or fractions
Entries = dict[int, Entry]


def rational(*fractions: tuple[int, int] | int) -> Entry:
    return RATIONAL, [fraction if isinstance(fraction, tuple) else (fraction, 1) for fraction in fractions]


def gps(
    latitude: Any = ((50, 1), (5, 1), (1020, 100)),
    longitude: Any = ((14, 1), (25, 1), (3000, 100)),
    north: str | None = "N",
    east: str | None = "E",
    **others: Entry,
) -> Entries:
    """GPS entries, of 50 degrees 5' 10.2\" north, 14 degrees 25' 30\" east by default; others as _17=(type, value)."""
    found: Entries = {0: (BYTE, bytes([2, 3, 0, 0]))}
    for tag, value in ((2, latitude), (4, longitude)):
        if value is not None:
            found[tag] = value if isinstance(value[0], int) else rational(*value)
    for tag, letter in ((1, north), (3, east)):
        if letter is not None:
            found[tag] = (ASCII, letter)
    return found | {int(name[1:]): entry for name, entry in others.items()}


def _packed(kind: int, value: Any, order: str) -> tuple[int, bytes]:
    """The count and the bytes of a value."""
    if kind == ASCII:
        content = value.encode("latin-1") + b"\0"
        return len(content), content
    if kind in (BYTE, UNDEFINED):
        return len(value), bytes(value)
    if kind in (RATIONAL, SRATIONAL):
        form = "I" if kind == RATIONAL else "i"
        return len(value), b"".join(struct.pack(f"{order}2{form}", *fraction) for fraction in value)
    form = {SHORT: "H", LONG: "I", DOUBLE: "d"}[kind]
    return len(value), struct.pack(f"{order}{len(value)}{form}", *value)


def _directory(entries: Entries, start: int, order: str) -> bytes:
    head = struct.pack(f"{order}H", len(entries))
    tail, place = b"", start + 2 + 12 * len(entries) + 4
    for tag in sorted(entries):
        count, content = _packed(*entries[tag], order)
        if len(content) <= 4:
            inline = content.ljust(4, b"\0")
        else:
            inline = struct.pack(f"{order}I", place + len(tail))
            tail += content + b"\0" * (len(content) % 2)
        head += struct.pack(f"{order}HHI", tag, entries[tag][0], count) + inline
    return head + b"\0\0\0\0" + tail


def exif(positions: Entries | None = None, camera: Entries | None = None, order: str = "<") -> bytes:
    """EXIF data with the entries of the directory GPS and of the directory Exif, without the mark Exif\\0\\0."""
    main: Entries = {0x010F: (ASCII, "Maker of cameras")}
    parts = {tag: part for tag, part in ((0x8769, camera), (0x8825, positions)) if part is not None}
    main |= {tag: (LONG, [0]) for tag in parts}
    place = 8 + len(_directory(main, 8, order))
    body = b""
    for tag, part in parts.items():
        main[tag] = (LONG, [place + len(body)])
        body += _directory(part, place + len(body), order)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8) + _directory(main, 8, order) + body


def photo(data: bytes | None = None, form: str = "JPEG", xmp: str = "", size: tuple[int, int] = (64, 48)) -> bytes:
    """A photo of a format with EXIF data, XMP data, or both."""
    options: dict[str, Any] = {}
    image = Image.new("RGB", size, (90, 120, 60))
    if form == "TIFF":
        return _tiff(image, data, xmp)
    if data is not None:
        options["exif"] = b"Exif\0\0" + data
    if xmp and form in ("JPEG", "WebP", "AVIF", "HEIF"):
        options["xmp"] = xmp.encode()
    if form == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    if xmp and form == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _tiff(image: Image.Image, data: bytes | None, xmp: str) -> bytes:
    """A TIFF photo behind whose pixels the directories of EXIF data are appended."""
    file = io.BytesIO()
    image.save(file, "TIFF", **({"tiffinfo": {700: xmp.encode()}} if xmp else {}))
    content = bytearray(file.getvalue())
    if data is None:
        return bytes(content)
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    entries = [content[first + 2 + 12 * row : first + 14 + 12 * row] for row in range(count)]
    content += b"\0" * (len(content) % 2)
    # The values of the EXIF data are at other places in the TIFF: every offset moves by the length before it.
    moved = _moved(data, len(content))
    (main,) = struct.unpack_from("<I", data, 4)
    (rows,) = struct.unpack_from("<H", moved, main)
    for row in range(rows):
        entry = moved[main + 2 + 12 * row : main + 14 + 12 * row]
        if struct.unpack_from("<H", entry)[0] in (0x8769, 0x8825):
            entries.append(entry)
    content += moved
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry)[0])
    struct.pack_into("<I", content, 4, len(content))
    content += struct.pack("<H", len(entries)) + b"".join(bytes(entry) for entry in entries) + b"\0\0\0\0"
    return bytes(content)


def _moved(data: bytes, by: int) -> bytearray:
    """Little-endian EXIF data whose offsets are `by` bytes larger."""
    content = bytearray(data)
    widths = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, UNDEFINED: 1, SRATIONAL: 8, DOUBLE: 8}
    pending = [struct.unpack_from("<I", data, 4)[0]]
    while pending:
        start = pending.pop()
        for row in range(struct.unpack_from("<H", data, start)[0]):
            place = start + 2 + 12 * row
            tag, kind, count, offset = struct.unpack_from("<HHII", data, place)
            if tag in (0x8769, 0x8825):
                pending.append(offset)
            if tag in (0x8769, 0x8825) or widths[kind] * count > 4:
                struct.pack_into("<I", content, place + 8, offset + by)
    return content


def png_with_late_metadata(data: bytes | None = None, xmp: str = "", packed: bool = False) -> bytes:
    """A PNG whose EXIF or XMP data follows its pixels, as ExifTool writes it."""
    plain = photo(form="PNG")
    end = plain.rindex(b"IEND") - 4
    late = b"" if data is None else _chunk(b"eXIf", data)
    if xmp:
        text = zlib.compress(xmp.encode()) if packed else xmp.encode()
        late += _chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([packed, 0]) + b"\0\0" + text)
    return plain[:end] + late + plain[end:]


def png_with_profile(data: bytes) -> bytes:
    """A PNG with EXIF data in a text chunk, as ImageMagick writes it."""
    content = b"Exif\0\0" + data
    text = f"\nexif\n{len(content):8}\n{content.hex()}\n".encode()
    plain = photo(form="PNG")
    start = plain.index(b"IDAT") - 4
    return plain[:start] + _chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)) + plain[start:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def xmp(attributes: str = "", elements: str = "") -> str:
    """An XMP packet with attributes and elements of one description."""
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:exif="http://ns.adobe.com/exif/1.0/" {attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    )
