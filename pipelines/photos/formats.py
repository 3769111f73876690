"""Finds and opens photo files without decoding them. Every failure is a PhotoError with a reason in plain words."""

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from keras_retrieval.errors import RetrievalError, printable

from ..files.stored_path import stored_path
from .signatures import HEAD, content_of, is_raw_tiff

MAX_PIXELS = 89_478_485
"""The default limit on the pixels of a photo, the same as Pillow's: 0.25 GiB at three bytes per pixel."""

HEIC_MISSING = 'a HEIC photo, which needs pillow-heif: pip install "keras-retrieval[heif]"'
"""The reason why a HEIC photo is left out where pillow-heif is not installed."""

TRUNCATED = "truncated: the file ends too early"
"""The reason why a photo that lacks its end is not read."""

RAW_TIFF = "a RAW photo (DNG, NEF, ARW or similar): export it as JPEG or TIFF"
"""The reason why a RAW photo is left out that begins like a TIFF."""

Source = str | os.PathLike[str] | bytes
"""The path of a photo, or the content of its file as bytes."""

_READERS: dict[str, Callable[[IO[bytes], str], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
}
_MOST_THUMBNAILS = 8  # pages of a TIFF that are skipped
_BOUNDED = ("GIF", "TIFF", "WebP", "HEIC", "AVIF")  # formats of which Pillow or its plugin limits the pixels itself


class PhotoError(RetrievalError, ValueError):
    """A photo cannot be read.

    Attributes:
        path: the path or name of the photo as the caller passed it, or "<bytes>" if the caller passed its content.
        reason: why the photo cannot be read, in plain words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    @property
    def truncated(self) -> bool:
        """Whether the file ends too early."""
        return self.reason == TRUNCATED

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.reason}")


class PhotoFolderError(RetrievalError, ValueError):
    """A folder of photos does not exist or contains no photos, or none of its photos can be read."""


class PhotoRefusalError(RetrievalError):
    """Internal: a reason not to read a photo, raised while the photo is open.

    `open_photo` replaces this exception by a PhotoError with the exception's text as the reason.
    """


@contextmanager
def open_photo(source: Source, max_pixels: int) -> Iterator[ImageFile]:
    """Context manager that opens a photo, reads its header, and replaces exceptions in its block by PhotoError.

    Pillow's format plugins are called directly, because `Image.open` prints warnings about large photos, may rely on
    the extension, and tries formats that this package does not support.

    Args:
        source: the path of the photo, or the content of its file as bytes.
        max_pixels: the largest number of pixels that the header may declare. For GIF, TIFF and WebP the limit is at
            most `MAX_PIXELS`.

    Yields:
        The Pillow image, whose pixels are not decoded yet.

    Raises:
        PhotoError: the photo cannot be opened, or the block raised any Exception.
    """
    path = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        with BytesIO(source) if isinstance(source, bytes) else _open_file(Path(path)) as file:
            yield _open_image(file, max_pixels)
    except Exception as error:
        raise PhotoError(path, _reason(error)) from error


def photo_state(path: Path) -> tuple[int, int]:
    """Returns the state of a photo's file, by which a change of the file is detected.

    Returns:
        The size in bytes and the modification time in ns; (0, 0) if the file does not exist.
    """
    try:
        status = stored_path(path).stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def is_text(name: str) -> bool:
    """Returns whether a name can be encoded as UTF-8.

    The result is False for a string with a lone surrogate, by which Python represents file names that are not UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def system_reason(error: OSError) -> str:
    """The reason why the system cannot read a file, in plain words."""
    return _reason(error)


def _open_file(path: Path) -> IO[bytes]:
    path = stored_path(path)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise PhotoRefusalError("is a folder, not a photo")
    if not stat.S_ISREG(mode):
        raise PhotoRefusalError("is not a regular file")
    return path.open("rb")


def heif_is_installed() -> bool:
    """Whether pillow-heif can be imported, which reads HEIC photos."""
    return _heif_reader() is not None


@cache
def _heif_reader() -> Callable[[IO[bytes], str], ImageFile] | None:
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError:
        return None
    return HeifImageFile


def photo_format(file: IO[bytes]) -> tuple[str, str]:
    """Tells from its content whether a file is a photo that can be read here.

    Args:
        file: the open file at its start; its position is restored.

    Returns:
        The format, one of `signatures.PHOTO_FORMATS`, and ""; or "" and the reason why the file is not read.
    """
    head = file.read(HEAD)
    file.seek(0)
    name, reason = content_of(head)
    if name == "TIFF" and is_raw_tiff(file):
        return "", RAW_TIFF
    if name == "HEIC" and not heif_is_installed():
        return "", HEIC_MISSING
    return name, reason


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PhotoRefusalError(f"too many pixels: {width} x {height}, and at most {max_pixels:,} are read")


def _open_image(file: IO[bytes], max_pixels: int) -> ImageFile:
    name, reason = photo_format(file)
    if not name:
        raise PhotoRefusalError(reason)
    if name in _BOUNDED:
        max_pixels = min(max_pixels, MAX_PIXELS)
    if name == "GIF":
        _check_pixels(_gif_size(file), max_pixels)
    reader = _heif_reader() if name == "HEIC" else _READERS[name]
    assert reader is not None, name
    image = reader(file, "")
    if isinstance(image, TiffImageFile):
        _skip_thumbnails(image)
    _check_pixels(image.size, max_pixels)
    return image


def _skip_thumbnails(image: TiffImageFile) -> None:
    """Moves a TIFF to its first page that is not a reduced version of another; to the first if there is none."""
    for page in range(_MOST_THUMBNAILS):
        if not image.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & 1:
            return
        try:
            image.seek(page + 1)
        except EOFError:
            break
    image.seek(0)


def _gif_size(file: IO[bytes]) -> tuple[int, int]:
    """Reads the (width, height) that Pillow gives a GIF: the logical screen, extended to contain the first frame."""
    width, height, flags = struct.unpack("<6xHHB2x", file.read(13))
    file.seek(3 << (flags & 7) + 1 if flags & 128 else 0, os.SEEK_CUR)
    while (block := file.read(1)) not in (b",", b";", b""):
        if block == b"!":
            file.seek(1, os.SEEK_CUR)
            while length := file.read(1)[0]:
                file.seek(length, os.SEEK_CUR)
    if block == b",":
        left, top, columns, rows = struct.unpack("<4H", file.read(8))
        width, height = max(width, left + columns), max(height, top + rows)
    file.seek(0)
    return width, height


def _reason(error: Exception) -> str:
    # Pillow wraps errors of its header readers in a SyntaxError, whose cause has the reason.
    cause = error.__cause__ if isinstance(error, SyntaxError) else error
    text = " ".join(str(error).split())[:160]
    match cause:
        case PhotoRefusalError():
            return text
        case FileNotFoundError():
            return "there is no such file"
        case PermissionError():
            return "no permission to read it"
        case MemoryError():
            return "too little memory to decode it"
        case Image.DecompressionBombError():
            return f"too many pixels ({text})"
        case OSError(errno=errno.EINVAL):  # seeking to an offset that no file can have
            return TRUNCATED
        case OSError(strerror=str(reason)):
            return f"the system cannot read it ({reason})"
        case KeyError():
            return f"damaged, or of a kind that Pillow cannot read ({text})"
        case EOFError() | IndexError() | TypeError() | struct.error():
            return TRUNCATED
    return TRUNCATED if "truncated" in text.lower() else f"damaged ({text})"
