"""What a file contains, told from its first bytes; the file's name does not count.

A photo is of one of the formats in `PHOTO_FORMATS`. Every other file gets a description such as "a video (QuickTime)",
which becomes the reason why it is left out.
"""

import struct
from typing import IO

HEAD = 64
"""Number of bytes at the start of a file that `content_of` needs."""

PHOTO_FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "HEIC", "AVIF")
"""The formats of photos that are read."""

EMPTY = "empty file"

_PHOTOS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)

_RAW = "a RAW photo ({}): export it as JPEG or TIFF"
_OTHERS = (
    # RAW photos whose header differs from TIFF's; the others are told apart by `is_raw_tiff`.
    (b"II*\0\x10\0\0\0CR", _RAW.format("Canon CR2")),
    (b"II\x1a\0\0\0HEAPCCDR", _RAW.format("Canon CRW")),
    (b"IIRO", _RAW.format("Olympus ORF")),
    (b"IIRS", _RAW.format("Olympus ORF")),
    (b"MMOR", _RAW.format("Olympus ORF")),
    (b"IIU\0", _RAW.format("Panasonic RW2")),
    (b"FUJIFILMCCD-RAW", _RAW.format("Fujifilm RAF")),
    (b"FOVb", _RAW.format("Sigma X3F")),
    (b"\0MRM", _RAW.format("Minolta MRW")),
    # Pictures of formats that are not read.
    (b"8BPS", "a Photoshop file, not a photo"),
    (b"gimp xcf", "a GIMP file, not a photo"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture: convert it to JPEG or PNG"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture: convert it to JPEG or PNG"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture: convert it to JPEG or PNG"),
    (b"\xff\x0a", "a JPEG XL picture: convert it to JPEG or PNG"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture: convert it to JPEG or PNG"),
    (b"#?RADIANCE", "a Radiance HDR picture: convert it to JPEG or PNG"),
    (b"DDS ", "a DDS texture, not a photo"),
    (b"\0\0\x01\0", "an icon, not a photo"),
    (b"\0\0\x02\0", "a cursor, not a photo"),
    # Videos and sound.
    (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
    (b"\0\0\x01\xba", "a video (MPEG)"),
    (b"\0\0\x01\xb3", "a video (MPEG)"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video or sound (Windows Media)"),
    (b"FLV\x01", "a video (Flash)"),
    (b"OggS", "a video or sound (Ogg)"),
    (b"ID3", "sound (MP3)"),
    (b"fLaC", "sound (FLAC)"),
    (b"#!AMR", "sound (AMR)"),
    # Documents, archives and programs.
    (b"%PDF", "a PDF document"),
    (b"{\\rtf", "a document (RTF)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Microsoft Office document or thumbnail file"),
    (b"PK\x03\x04", "a ZIP archive, or a document or app in one"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "an archive (7z)"),
    (b"Rar!\x1a\x07", "an archive (RAR)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"SQLite format 3\0", "a database (SQLite)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"bplist00", "a property list (Apple)"),
    (b"\0\x05\x16\x07", "a resource fork (AppleDouble), not a photo"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program or library (Windows)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the photo itself: run git lfs pull"),
)
_RIFF = {b"WEBP": "", b"AVI ": "a video (AVI)", b"WAVE": "sound (WAV)"}
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_AVIF = (b"avif", b"avis")
_HEIF = (b"mif1", b"mif2", b"msf1", b"miaf")  # brands of containers whose coding the compatible brands state
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_TEXT_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_TEXT_CONTROLS = frozenset(b"\t\n\r\x0c\x1b")


def content_of(head: bytes) -> tuple[str, str]:
    """Tells from its first bytes what a file contains.

    Args:
        head: the first `HEAD` bytes of the file, or all of them if it is shorter.

    Returns:
        The format of a photo, one of `PHOTO_FORMATS`, and ""; or "" and the description of the other content. TIFF
        counts as a photo here, although some RAW photos begin like one: see `is_raw_tiff`.
    """
    photo = _photo_format(head)
    return (photo, "") if photo else ("", _other_content(head))


def _photo_format(head: bytes) -> str:
    for signature, name in _PHOTOS:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(_TIFF) and not head.startswith(b"II*\0\x10\0\0\0CR"):
        return "TIFF"
    if head[4:8] == b"ftyp":
        return _coding(head)
    # "BM" begins words, too: the header's size makes the difference.
    if head[:2] == b"BM" and len(head) >= 18 and struct.unpack("<I", head[14:18])[0] in _BMP_HEADERS:
        return "BMP"
    return ""


def _brands(head: bytes) -> tuple[bytes, list[bytes]]:
    """The major and the compatible brands of an ISO media file, as far as they are in `head`."""
    end = min(len(head), max(16, int.from_bytes(head[:4], "big")))
    return head[8:12], [head[at : at + 4] for at in range(16, end - 3, 4)]


def _coding(head: bytes) -> str:
    major, compatible = _brands(head)
    for brand in (major, *(compatible if major in _HEIF else ())):
        if brand in _AVIF:
            return "AVIF"
        if brand in _HEIC:
            return "HEIC"
    return "HEIC" if major in _HEIF else ""


def _other_content(head: bytes) -> str:
    if not head:
        return EMPTY
    for signature, description in _OTHERS:
        if head.startswith(signature):
            return description
    if head[4:8] == b"ftyp":
        major, _ = _brands(head)
        if major == b"crx ":
            return _RAW.format("Canon CR3")
        if major in (b"M4A ", b"M4B ", b"F4A "):
            return "sound (MPEG-4)"
        return "a video (QuickTime)" if major == b"qt  " else "a video (MPEG-4)"
    if head[4:8] in _QUICKTIME_ATOMS:
        return "a video (QuickTime)"
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12]) or "a RIFF file, not a photo"
    if not head.strip(b"\0"):
        return "only zero bytes, as an interrupted copy leaves them: copy it again"
    return _text(head) or f"not a picture in a known format ({', '.join(PHOTO_FORMATS)})"


def _text(head: bytes) -> str:
    """The description of a text file, or "" if the bytes are not text."""
    if head.startswith(_TEXT_MARKS):
        return "a text file"
    if any(byte < 32 and byte not in _TEXT_CONTROLS for byte in head):
        return ""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if len(head) < HEAD or error.start < len(head) - 3:  # else a character is cut off by the end of `head`
            return ""
        text = head[: error.start].decode()
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")):
        return "an HTML page, as a failed download leaves it"
    if start.startswith(("<svg", "<?xml")):
        return "a text file (XML or SVG)"
    return "a text file"


_RAW_COMPRESSIONS = (32767, 34713, 65000, 65535)  # Sony ARW, Nikon NEF, Kodak, Pentax PEF
_RAW_COLOURS = (32803, 34892)  # colour filter array, linear raw
_SUBFILE, _COMPRESSION, _COLOURS, _SUB_DIRECTORIES, _DNG = 254, 259, 262, 330, 50706
_MOST_TAGS = 512  # of a first directory; more is damage


def is_raw_tiff(file: IO[bytes]) -> bool:
    """Whether a TIFF file is a RAW photo, whose first picture is only a preview or is not developed.

    The first directory of such a file (DNG, NEF, ARW, PEF and others) has the tag DNGVersion, marks its picture as a
    reduced version of one in a sub-directory, or states undeveloped colours or a camera's own compression.

    Args:
        file: the open file, which starts with a TIFF signature; its position is restored.

    Returns:
        False for a file that is damaged, too.
    """
    start = file.tell()
    try:
        tags = _first_directory(file)
    except (struct.error, ValueError, OverflowError, OSError):  # the last two for an offset that no file can have
        return False
    finally:
        file.seek(start)
    reduced = tags.get(_SUBFILE, 0) & 1 and _SUB_DIRECTORIES in tags
    raw = tags.get(_COMPRESSION) in _RAW_COMPRESSIONS or tags.get(_COLOURS) in _RAW_COLOURS
    return bool(_DNG in tags or reduced or raw)


def _first_directory(file: IO[bytes]) -> dict[int, int]:
    """The tags of the first directory with their first value, as a number of the value's field.

    Raises:
        struct.error: the file is too short.
    """
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    (offset,) = struct.unpack(order + "Q", head[8:16]) if big else struct.unpack(order + "I", head[4:8])
    file.seek(offset)
    (count,) = struct.unpack(order + "Q", file.read(8)) if big else struct.unpack(order + "H", file.read(2))
    size = 20 if big else 12
    content = file.read(size * min(count, _MOST_TAGS))
    tags = {}
    for at in range(0, len(content) - size + 1, size):
        tag, kind = struct.unpack(order + "HH", content[at : at + 4])
        value = content[at + (12 if big else 8) :]
        tags[tag] = struct.unpack(order + "H", value[:2])[0] if kind == 3 else struct.unpack(order + "I", value[:4])[0]
    return tags
