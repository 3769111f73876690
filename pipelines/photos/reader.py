"""Decodes photos to RGB pixels. Extraction, training and evaluation all read photos with this module.

`read_photo` decodes a photo, and `photo_size` computes the size of the decoded photo from the file's header alone. A
photo that cannot be read raises `PhotoError` with a reason in plain words.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image
from PIL.Image import Resampling, Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from keras_retrieval.errors import ArgumentError

from ..files.stored_path import stored_path
from .formats import MAX_PIXELS as MAX_PIXELS
from .formats import PhotoError as PhotoError
from .formats import PhotoRefusalError, Source, open_photo
from .signatures import HEAD, content_of

Crop = tuple[float, float, float, float]
Pixels = TypeVar("Pixels")

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
_UNREAD = {"I": "signed or 32-bit numbers", "F": "32-bit floats", "LAB": "CIELAB colours"}
_PROFILES = ("Raw profile type APP1", "Raw profile type xmp")
_END_OF_IMAGE = b"\xff\xd9"
_SIDEWAYS: set[Transpose | None] = {
    Transpose.TRANSPOSE,
    Transpose.ROTATE_270,
    Transpose.TRANSVERSE,
    Transpose.ROTATE_90,
}


def photo_size(
    source: Source,
    *,
    size: int | None = None,
    crop: Crop | None = None,
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> tuple[int, int]:
    """Computes the size of the array that :func:`read_photo` returns for the same arguments, from the header alone.

    Args:
        source: the path of the photo, or the content of its file as bytes.
        size: as for :func:`read_photo`.
        crop: as for :func:`read_photo`.
        exif: as for :func:`read_photo`.
        max_pixels: as for :func:`read_photo`.

    Returns:
        The (height, width) in pixels.

    Raises:
        PhotoError: the header cannot be read or declares more than `max_pixels` pixels, or `crop` is empty or extends
            beyond the photo.
        ArgumentError: `size` is less than one pixel.
    """
    _check_size(size)
    with open_photo(source, max_pixels) as image:
        width, height = _view(image, size, crop, exif).target
        return height, width


def read_photo(
    source: Source,
    *,
    size: int | None = None,
    crop: Crop | None = None,
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
    accept_truncated: bool = False,
) -> np.ndarray:
    """Reads a JPEG, PNG, WebP, GIF (its first frame), BMP, TIFF, HEIC or AVIF photo as RGB pixels.

    Grey, palette, CMYK and 16-bit photos are converted to 8-bit RGB, and transparent pixels are blended with white.
    Signed, 32-bit and float pixels are refused, because such files do not define which value is white. CIELAB is also
    refused. A photo may be as small as 1 x 1 pixels; the caller checks the smallest size that its network accepts.

    A JPEG that is to be shrunk to less than half is decoded at 1/2, 1/4 or 1/8 of its size, but to at least twice the
    final size on each side, and then resized. EXIF data is ignored if it is damaged or comes after the pixels of a PNG.

    Args:
        source: the path of the photo, or the content of its file as bytes.
        size: the longest side of the whole photo after resizing (Lanczos, antialiased), in pixels; photos are never
            enlarged. None for no resizing.
        crop: the part of the photo to read, (left, top, right, bottom) in pixels of the whole photo after the EXIF
            orientation is applied and before resizing; None for the whole photo. Coordinates are rounded to whole
            pixels and may exceed the photo by one pixel. The crop is shrunk by the same factor as the whole photo would
            be, so that its scale equals that of database photos read with the same `size`.
        exif: whether the EXIF orientation is applied to the photo.
        max_pixels: the largest number of pixels that the photo's header may declare. A larger photo is refused before
            it is decoded, which bounds memory to about twelve bytes per declared pixel. Values above `MAX_PIXELS` have
            an effect only for JPEG, PNG and BMP; for the other formats the limit is then `MAX_PIXELS`.
        accept_truncated: whether a JPEG that lacks its last bytes is read, with grey in place of what is missing.

    Returns:
        The pixels, (height, width, 3) uint8.

    Raises:
        PhotoError: the photo cannot be read or has too many pixels, or `crop` is empty or extends beyond the
            photo.
        ArgumentError: `size` is less than one pixel.
    """
    _check_size(size)
    return _with_an_end(lambda given: _pixels(given, size, crop, exif, max_pixels), source, accept_truncated)


def _with_an_end(read: Callable[[Source], Pixels], source: Source, accept_truncated: bool) -> Pixels:
    """Reads a photo; a truncated JPEG, if it is accepted, with an end appended to it."""
    try:
        return read(source)
    except PhotoError as error:
        ended = _ended(source) if accept_truncated and error.truncated else None
        if ended is None:
            raise
        try:
            return read(ended)
        except PhotoError:
            raise error from None


def _ended(source: Source) -> bytes | None:
    """The bytes of a JPEG with an end, so that libjpeg fills the missing pixels with grey; None for other formats."""
    content = source if isinstance(source, bytes) else stored_path(Path(source)).read_bytes()
    return content + _END_OF_IMAGE if content_of(content[:HEAD])[0] == "JPEG" else None


def _pixels(source: Source, size: int | None, crop: Crop | None, exif: bool, max_pixels: int) -> np.ndarray:
    with open_photo(source, max_pixels) as image:
        view = _view(image, size, crop, exif)
        pixels = np.array(_draw(image, view))
        width, height = view.target
        if pixels.shape != (height, width, 3):
            raise PhotoRefusalError(f"its pixels are {pixels.shape}, not the {height} x {width} of its header")
        return pixels


def read_crops(
    source: Source,
    boxes_of: Callable[[int, int], Sequence[tuple[int, int, int, int]]],
    *,
    size: int | None = None,
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
    accept_truncated: bool = False,
) -> tuple[list[tuple[int, int, int, int]], list[np.ndarray]]:
    """Reads several crops of a photo, which is decoded once.

    The longest side of each crop gets that of the whole photo as `read_photo` returns it, so that small objects are
    seen larger; crops with fewer pixels are enlarged. A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if each crop
    has at least twice its final size there.

    Args:
        source: the path of the photo, or the content of its file as bytes.
        boxes_of: function from the width and the height of the upright photo to the crops: left, top, right and bottom
            in pixels.
        size: the longest side of the whole photo after resizing (Lanczos, antialiased), in pixels, which is never
            enlarged; None for no resizing.
        exif: as for `read_photo`.
        max_pixels: as for `read_photo`.
        accept_truncated: as for `read_photo`.

    Returns:
        The boxes, and the pixels of each, (height, width, 3) uint8.

    Raises:
        PhotoError: the photo cannot be read or has too many pixels.
        ArgumentError: `size` is less than one pixel.
    """
    _check_size(size)
    return _with_an_end(lambda given: _crops(given, boxes_of, size, exif, max_pixels), source, accept_truncated)


def _crops(
    source: Source,
    boxes_of: Callable[[int, int], Sequence[tuple[int, int, int, int]]],
    size: int | None,
    exif: bool,
    max_pixels: int,
) -> tuple[list[tuple[int, int, int, int]], list[np.ndarray]]:
    with open_photo(source, max_pixels) as image:
        whole = _view(image, None, None, exif)
        width, height = whole.target
        boxes = list(boxes_of(width, height))
        longest = max(_shrunk(width, height, size or max(width, height)))
        targets = [_scaled(right - left, bottom - top, longest) for left, top, right, bottom in boxes]
        stored, draft = image.size, None
        if isinstance(image, JpegImageFile):
            # The smallest share of the whole photo's sides at which every crop still has twice its final size.
            share = max(2 * target[0] / (box[2] - box[0]) for box, target in zip(boxes, targets, strict=True))
            share = min(share, 1.0)
            draft = image.draft(None, (math.ceil(stored[0] * share), math.ceil(stored[1] * share)))
        scale = draft[1][2] / stored[0] if draft else 1.0
        upright = _turned(_rgb(image), whole.turn)
        if draft is None and upright.size != (width, height):
            raise PhotoRefusalError(f"its pixels are {upright.size}, not the {width} x {height} of its header")
        pixels = []
        for (left, top, right, bottom), target in zip(boxes, targets, strict=True):
            part = (left * scale, top * scale, right * scale, bottom * scale)
            pixels.append(np.array(upright.resize(target, Resampling.LANCZOS, box=part)))
        return boxes, pixels


def is_upright(image: ImageFile) -> bool:
    """Returns whether the pixels of an open photo are stored upright, so that `read_photo` does not transpose them.

    Args:
        image: a photo that `formats.open_photo` opened.
    """
    return turn_to_upright(image) is None


def turn_to_upright(image: ImageFile) -> Transpose | None:
    """Returns the transposition by which `read_photo` turns the stored pixels of an open photo; None for none.

    Args:
        image: a photo that `formats.open_photo` opened.
    """
    return _turn(image, exif=True)


@dataclass(frozen=True)
class _View:
    """How to read a photo: transpose by `turn`, crop to `box`, then resize to `target`, which is (width, height)."""

    turn: Transpose | None
    box: tuple[int, int, int, int] | None
    target: tuple[int, int]


def _check_size(size: int | None) -> None:
    if size is not None and size < 1:
        raise ArgumentError(f"size must be at least 1 pixel, got {size}")


def _view(image: ImageFile, size: int | None, crop: Crop | None, exif: bool) -> _View:
    turn = _turn(image, exif)
    width, height = _loaded_size(image)[:: -1 if turn in _SIDEWAYS else 1]
    box = None if crop is None else _box(crop, width, height)
    wide, high = (width, height) if box is None else (box[2] - box[0], box[3] - box[1])
    if size is None:
        return _View(turn, box, (wide, high))
    longest = max(1, size * max(wide, high) // max(width, height))
    return _View(turn, box, _shrunk(wide, high, longest))


def _turn(image: ImageFile, exif: bool) -> Transpose | None:
    """Returns the transposition that applies the EXIF orientation, or None.

    Pillow itself applies the orientation of TIFF files; without `exif`, the result is the inverse of it.
    """
    try:
        # PngImageFile.getexif would decode the pixels to find EXIF data behind them.
        exif_data = Image.Image.getexif(image)
        orientation = exif_data.get(ExifTags.Base.Orientation) or _profile_orientation(image)
    except Exception:
        return None
    if isinstance(image, TiffImageFile):
        return None if exif else _UNTURNS.get(orientation)
    return _TURNS.get(orientation) if exif else None


def _loaded_size(image: ImageFile) -> tuple[int, int]:
    """The (width, height) of an image once its pixels are decoded.

    Pillow turns a TIFF by the orientation in its XMP metadata, too, but its size only by that in the tag.
    """
    if not isinstance(image, TiffImageFile) or ExifTags.Base.Orientation in image.tag_v2:
        return image.size
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    width, height = image.size
    return (height, width) if _TURNS.get(orientation) in _SIDEWAYS else (width, height)


def _profile_orientation(image: ImageFile) -> int:
    """The orientation in a raw profile of a PNG that Pillow does not read, as ImageMagick writes it; 1 if none."""
    for key in _PROFILES:
        if text := image.info.get(key):
            content = bytes.fromhex("".join(str(text).split("\n")[3:]))
            if content.startswith(b"Exif"):
                exif = Image.Exif()
                exif.load(content)
                return exif.get(ExifTags.Base.Orientation, 1)
            if found := re.search(rb'tiff:Orientation(?:="|>)([1-8])', content):
                return int(found[1])
    return 1


def _box(crop: Crop, width: int, height: int) -> tuple[int, int, int, int]:
    if len(crop) != 4 or not all(math.isfinite(side) for side in crop):
        raise PhotoRefusalError(f"the crop {crop} is not four finite numbers (left, top, right, bottom)")
    left, top, right, bottom = (round(side) for side in crop)
    if min(left, top) < -1 or right > width + 1 or bottom > height + 1:
        raise PhotoRefusalError(f"the crop {crop} extends outside the photo, which is {width} x {height}")
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if right <= left or bottom <= top:
        raise PhotoRefusalError(f"the crop {crop} is empty")
    return left, top, right, bottom


def _shrunk(width: int, height: int, longest: int) -> tuple[int, int]:
    """Computes the size whose longest side is `longest` and whose aspect ratio is nearest, as Pillow's `thumbnail`.

    A photo that is not larger than `longest` keeps its size.
    """
    return (width, height) if max(width, height) <= longest else _scaled(width, height, longest)


def _scaled(width: int, height: int, longest: int) -> tuple[int, int]:
    """Computes the size whose longest side is `longest` and whose aspect ratio is nearest."""
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
    """Decodes an image of any Pillow mode to RGB; transparent pixels are blended with white."""
    image.load()
    if image.mode in ("I", "F", "LAB"):
        raise PhotoRefusalError(f"its pixels are {_UNREAD[image.mode]}: save it as 8-bit or 16-bit PNG")
    if image.mode.startswith("I;16"):
        return _grey16(image).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image.convert("RGB")


def _grey16(image: ImageFile) -> Image.Image:
    """Scales 16-bit grey, or 12-bit grey of TIFF, to 8 bits; Pillow's own conversion would clip values at 255."""
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    white = 2 ** tags.get(ExifTags.Base.BitsPerSample, (16,))[0] - 1
    grey = (np.array(image).astype(np.uint32) * 255 + white // 2) // white
    inverted = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    return Image.fromarray((255 - grey if inverted else grey).astype(np.uint8))
