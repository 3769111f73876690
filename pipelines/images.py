"""The only photo reader of the house: extraction, training and evaluation see the same pixels.

`read_photo` turns a file into RGB pixels, `photo_size` says from the header alone how large they will be, and
`list_photos` finds the files. Whatever is wrong with a photo is a `PhotoError` with a reason in plain words.
"""

import math
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Resampling, Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS = 89_478_485
"""A quarter of a gigabyte at three bytes a pixel: where Pillow, too, begins to suspect a decompression bomb."""

EXTENSIONS = (".bmp", ".gif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""How the names of photos end, in any case."""

Source = str | os.PathLike[str] | bytes
Crop = tuple[float, float, float, float]

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
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_UNTURNS = {**_TURNS, 6: Transpose.ROTATE_90, 8: Transpose.ROTATE_270}
_SIDEWAYS = {Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90}


class PhotoError(ValueError):
    """A photo cannot be read.

    Attributes:
        path: the photo's path as it was given, or "<bytes>".
        reason: what is wrong with it, in plain words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def list_photos(folder: Path) -> list[str]:
    """Finds the photos of a folder and of the folders in it, by the endings of their names (`EXTENSIONS`).

    Hidden files and folders are left out, and links to folders are not followed.

    Args:
        folder: where to look.

    Returns:
        Sorted names relative to `folder`, with / between their parts.

    Raises:
        ValueError: `folder` is missing, no folder, not readable or without photos, or a name in it is not text.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder" if folder.exists() else f"there is no {folder}")
    names = sorted(_walk(folder))
    if not names:
        raise ValueError(f"{folder} holds no photo: names must end in one of {', '.join(EXTENSIONS)}")
    for name in names:
        if not _is_text(name):
            raise ValueError(f"{folder}: the name {name!r} is not valid text: rename that photo")
    return names


def photo_size(
    source: Source,
    *,
    size: int | None = None,
    crop: Crop | None = None,
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> tuple[int, int]:
    """The (height, width) of what `read_photo` returns for the same arguments, from the header alone.

    Raises:
        PhotoError: the header already tells that the photo cannot be read.
        ValueError: `size` is less than one pixel.
    """
    _check_size(size)
    with _opened(source, max_pixels) as image:
        width, height = _view(image, size, crop, exif).target
        return height, width


def read_photo(
    source: Source,
    *,
    size: int | None = None,
    crop: Crop | None = None,
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Reads a JPEG, PNG, WebP, GIF (its first frame), BMP or TIFF photo as RGB pixels.

    Grey, palette, CMYK and 16-bit photos become 8-bit RGB, and transparency shows white paper. 32-bit integer and
    float pixels are refused, for nothing in such a file says which value is white. A photo may be as small
    as 1 x 1: what a network needs is for the caller to ask.

    A JPEG that shrinks to less than a half is decoded at 1/2, 1/4 or 1/8, but never at less than twice the
    size that is asked for on either side, and resized from there. EXIF data that is damaged, or stands behind the
    pixels of a PNG, does not count.

    Args:
        source: a path, or the bytes of a photo.
        size: the longest side of the whole photo after resizing (Lanczos, antialiased), in pixels; a smaller
            photo is never enlarged. None keeps its size.
        crop: (left, top, right, bottom) in pixels of the whole photo, as it stands after EXIF turned it, rounded
            to whole pixels and cut before resizing. The cut is shrunk as much as the whole photo would be, so
            that its scale is that of a database read with the same `size`. It may overhang by a pixel.
        exif: turn the photo as its EXIF orientation says.
        max_pixels: a photo whose header declares more is refused before decoding. Over `MAX_PIXELS` it counts
            for JPEG, PNG and BMP only, since Pillow holds the other formats to limits of its own.

    Returns:
        (height, width, 3) uint8.

    Raises:
        PhotoError: whatever is wrong with the photo, or with `crop` on it.
        ValueError: `size` is less than one pixel.
    """
    _check_size(size)
    with _opened(source, max_pixels) as image:
        view = _view(image, size, crop, exif)
        pixels = np.array(_draw(image, view))
        width, height = view.target
        if pixels.shape != (height, width, 3):
            raise ValueError(f"its pixels are {pixels.shape}, not the {height} x {width} of its header")
        return pixels


@dataclass(frozen=True)
class _View:
    """Which part of a photo is wanted, and how large: `box` and `target` count pixels of the turned photo."""

    turn: Transpose | None
    box: tuple[int, int, int, int] | None
    target: tuple[int, int]


def _walk(folder: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise ValueError(f"{error.filename}: the folder cannot be listed ({error.strerror})") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                yield Path(place, name).relative_to(folder).as_posix()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_size(size: int | None) -> None:
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1 pixel, not {size}")


@contextmanager
def _opened(source: Source, max_pixels: int) -> Iterator[ImageFile]:
    """Opens a photo, header only, and makes a PhotoError of all that goes wrong until it is closed."""
    path = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        with BytesIO(source) if isinstance(source, bytes) else _open_file(Path(path)) as file:
            yield _open_image(file, max_pixels)
    except Exception as error:
        raise PhotoError(path, _reason(error)) from error


class _RefusedError(Exception):
    """Its text is the reason for the user."""


def _open_file(path: Path) -> IO[bytes]:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise _RefusedError("is a folder, not a photo")
    if not stat.S_ISREG(mode):
        raise _RefusedError("is no regular file")
    return path.open("rb")


def _reader_of(file: IO[bytes]) -> Callable[[IO[bytes], str], ImageFile]:
    start = file.read(16)
    file.seek(0)
    if not start:
        raise _RefusedError("empty file")
    for signature, reader in _READERS:
        if start.startswith(signature) and (reader is not WebPImageFile or start[8:12] == b"WEBP"):
            return reader
    raise _RefusedError("not a picture in a known format (JPEG, PNG, WebP, GIF, BMP, TIFF)")


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _RefusedError(f"too many pixels: {width} x {height}, and at most {max_pixels:,} are read")


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
    """The size that Pillow will give a GIF: its screen, grown to hold its first frame."""
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


def _view(image: ImageFile, size: int | None, crop: Crop | None, exif: bool) -> _View:
    turn = _turn(image, exif)
    width, height = image.size[::-1] if turn in _SIDEWAYS else image.size
    box = None if crop is None else _box(crop, width, height)
    wide, high = (width, height) if box is None else (box[2] - box[0], box[3] - box[1])
    if size is None:
        return _View(turn, box, (wide, high))
    longest = max(1, math.floor(size * max(wide, high) / max(width, height)))
    return _View(turn, box, _shrunk(wide, high, longest))


def _turn(image: ImageFile, exif: bool) -> Transpose | None:
    """How to turn the decoded picture. Pillow turns TIFF files itself, so that those are turned back."""
    if isinstance(image, PngImageFile) and "exif" not in image.info:
        return None
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return None
    if isinstance(image, TiffImageFile):
        return None if exif else _UNTURNS.get(orientation)
    return _TURNS.get(orientation) if exif else None


def _box(crop: Crop, width: int, height: int) -> tuple[int, int, int, int]:
    if len(crop) != 4 or not all(math.isfinite(side) for side in crop):
        raise _RefusedError(f"the crop {crop} is not four finite numbers (left, top, right, bottom)")
    left, top, right, bottom = (round(side) for side in crop)
    if min(left, top) < -1 or right > width + 1 or bottom > height + 1:
        raise _RefusedError(f"the crop {crop} reaches outside the photo, which is {width} x {height}")
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if right <= left or bottom <= top:
        raise _RefusedError(f"the crop {crop} is empty")
    return left, top, right, bottom


def _shrunk(width: int, height: int, longest: int) -> tuple[int, int]:
    """The size with that longest side whose aspect is nearest, as Pillow's thumbnail chooses it; never larger."""
    if max(width, height) <= longest:
        return width, height
    exact = longest * min(width, height) / max(width, height)
    shorts = [max(1, math.floor(exact)), max(1, math.ceil(exact))]
    if width < height:
        return min(shorts, key=lambda short: abs(width / height - short / longest)), longest
    return longest, min(shorts, key=lambda short: abs(width / height - longest / short))


def _draw(image: ImageFile, view: _View) -> Image.Image:
    if view.box is not None:
        whole = _turned(_rgb(image), view.turn)
        return whole.crop(view.box).resize(view.target, Resampling.LANCZOS)
    width, height = view.target[::-1] if view.turn in _SIDEWAYS else view.target
    draft = image.draft(None, (2 * width, 2 * height)) if isinstance(image, JpegImageFile) else None
    extent = draft[1] if draft else None
    return _turned(_rgb(image).resize((width, height), Resampling.LANCZOS, box=extent), view.turn)


def _turned(picture: Image.Image, turn: Transpose | None) -> Image.Image:
    return picture if turn is None else picture.transpose(turn)


def _rgb(image: ImageFile) -> Image.Image:
    """Decodes a picture of any mode to RGB, transparency on white."""
    image.load()
    if image.mode in ("I", "F"):
        raise _RefusedError("32-bit pixels, of which none is known to be white: save it as 8-bit or 16-bit PNG")
    if image.mode.startswith("I;16"):
        return _grey16(image).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image.convert("RGB")


def _grey16(image: ImageFile) -> Image.Image:
    """Scales 16-bit grey, or the 12-bit grey of TIFF, to 8 bits; Pillow would clip it at 255."""
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    white = 2 ** tags.get(ExifTags.Base.BitsPerSample, (16,))[0] - 1
    grey = (np.array(image).astype(np.uint32) * 255 + white // 2) // white
    return Image.fromarray(
        (255 - grey if tags.get(ExifTags.Base.PhotometricInterpretation) == 0 else grey).astype(np.uint8)
    )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    match error:
        case _RefusedError():
            return text
        case FileNotFoundError():
            return "there is no such file"
        case PermissionError():
            return "no permission to read it"
        case MemoryError():
            return "too little memory to decode it"
        case Image.DecompressionBombError():
            return "too many pixels: " + text
        case OSError(strerror=str(reason)):
            return f"the system cannot read it ({reason})"
        case EOFError() | IndexError() | struct.error():
            return "truncated: the file ends too early"
    return "truncated: the file ends too early" if "truncated" in text.lower() else f"damaged ({text[:160]})"
