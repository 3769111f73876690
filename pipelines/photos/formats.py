"""Finds and opens photo files without decoding them. Every failure is a PhotoError with a reason in plain words."""

import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from keras_retrieval.errors import RetrievalError

MAX_PIXELS = 89_478_485
"""The default limit on the pixels of a photo, the same as Pillow's: 0.25 GiB at three bytes per pixel."""

EXTENSIONS = (".bmp", ".gif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""The file name extensions of photos, which are compared without regard to case."""

Source = str | os.PathLike[str] | bytes
"""The path of a photo, or the content of its file as bytes."""

_READERS: tuple[tuple[bytes, Callable[[IO[bytes], str], ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"GIF8", GifImageFile),
    (b"RIFF", WebPImageFile),
    (b"BM", BmpImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
    (b"II+\0", TiffImageFile),
    (b"MM\0+", TiffImageFile),
)


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

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class PhotoFolderError(RetrievalError, ValueError):
    """A folder of photos does not exist or contains no photos, or none of its photos can be read."""


class PhotoRefusalError(RetrievalError):
    """Internal: a reason not to read a photo, raised while the photo is open.

    `open_photo` replaces this exception by a PhotoError with the exception's text as the reason.
    """


def list_photos(folder: Path) -> list[str]:
    """Lists the photos in a folder and its sub-folders, which are the files with one of the `EXTENSIONS`.

    Hidden files and folders are left out, and symbolic links to folders are not followed.

    Args:
        folder: the folder to search.

    Returns:
        The names of the photos, sorted: their paths relative to `folder`, with / as the separator.

    Raises:
        PhotoFolderError: `folder` does not exist, is a file, cannot be listed or contains no photo, or the name of a
            photo is not valid UTF-8.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PhotoFolderError(f"{folder} {'is a file, not a folder' if folder.exists() else 'does not exist'}")
    names = sorted(_walk(folder))
    if not names:
        raise PhotoFolderError(f"{folder} contains no photo: names must end in one of {', '.join(EXTENSIONS)}")
    for name in names:
        if not is_text(name):
            raise PhotoFolderError(f"{folder}: the name {name!r} is not valid text: rename that photo")
    return names


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
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _walk(folder: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise PhotoFolderError(f"{error.filename}: the folder cannot be listed ({error.strerror})") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                yield Path(place, name).relative_to(folder).as_posix()


def is_text(name: str) -> bool:
    """Returns whether a name can be encoded as UTF-8.

    The result is False for a string with a lone surrogate, by which Python represents file names that are not UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _open_file(path: Path) -> IO[bytes]:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise PhotoRefusalError("is a folder, not a photo")
    if not stat.S_ISREG(mode):
        raise PhotoRefusalError("is not a regular file")
    return path.open("rb")


def _reader_of(file: IO[bytes]) -> Callable[[IO[bytes], str], ImageFile]:
    start = file.read(16)
    file.seek(0)
    if not start:
        raise PhotoRefusalError("empty file")
    for signature, reader in _READERS:
        if start.startswith(signature) and (reader is not WebPImageFile or start[8:12] == b"WEBP"):
            return reader
    raise PhotoRefusalError("not a picture in a known format (JPEG, PNG, WebP, GIF, BMP, TIFF)")


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PhotoRefusalError(f"too many pixels: {width} x {height}, and at most {max_pixels:,} are read")


def _open_image(file: IO[bytes], max_pixels: int) -> ImageFile:
    reader = _reader_of(file)
    if reader in (GifImageFile, TiffImageFile, WebPImageFile):
        max_pixels = min(max_pixels, MAX_PIXELS)
    if reader is GifImageFile:
        _check_pixels(_gif_size(file), max_pixels)
    image = reader(file, "")
    _check_pixels(image.size, max_pixels)
    return image


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
        case OSError(strerror=str(reason)):
            return f"the system cannot read it ({reason})"
        case KeyError():
            return f"damaged, or of a kind that Pillow cannot read ({text})"
        case EOFError() | IndexError() | TypeError() | struct.error():
            return "truncated: the file ends too early"
    return "truncated: the file ends too early" if "truncated" in text.lower() else f"damaged ({text})"
