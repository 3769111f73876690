"""Generates synthetic photos, as files in several image formats.

`export-saved-model` compares an exported network with Keras on them if the user gives no photos, and sends them as
warm-up requests.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_ORIENTATION = 0x0112
_SMALL = 64


def drawn_photo(height: int, width: int, file_format: str = "JPEG", **options: Any) -> bytes:
    """Generates a synthetic photo: random colours, smoothly interpolated, with Gaussian noise.

    Args:
        height: height of the photo in pixels.
        width: width of the photo in pixels.
        file_format: Pillow's name of the file format, such as "JPEG" or "PNG".
        **options: options of Pillow's `Image.save`, such as `quality`.

    Returns:
        The bytes of a photo file, which are the same in every call with the same arguments.
    """
    rng = np.random.default_rng([height, width])
    blobs = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.array(blobs) + rng.normal(0, 12, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, file_format, **options)
    return file.getvalue()


def check_photos(size: int) -> Mapping[str, bytes]:
    """Generates four synthetic photos that together run every branch of the resizing and rotation of a photo reader.

    Args:
        size: longest side in pixels to which the reader shrinks photos.

    Returns:
        A dict from file names to the bytes of the files: two JPEG photos whose longest sides are 1.25 and 2.5 times
        `size`, so that they are shrunk; a JPEG photo whose EXIF orientation rotates it; and a PNG photo whose longest
        side is `size`.
    """
    turn = Image.Exif()
    turn[_ORIENTATION] = 6
    return {
        "shrunk.jpg": drawn_photo(size, size * 5 // 4, quality=90),
        "drafted.jpg": drawn_photo(size * 2, size * 5 // 2, quality=90),
        "turned.jpg": drawn_photo(max(1, size * 3 // 4), size, exif=turn),
        "at_size.png": drawn_photo(size, max(1, size * 2 // 3), "PNG"),
    }


def warm_up_photos(size: int) -> list[bytes]:
    """Generates synthetic photos for warm-up requests, one in each format that a served network reads.

    Args:
        size: longest side in pixels to which the network's reader shrinks photos.

    Returns:
        The bytes of the files: a JPEG photo whose longest side is 1.25 times `size`, so that the reader shrinks it; and
        a PNG, a GIF, a WebP and a BMP photo of 64 x 64 pixels.
    """
    formats = ("PNG", "GIF", "WEBP", "BMP")
    return [drawn_photo(size, size * 5 // 4), *(drawn_photo(_SMALL, _SMALL, name) for name in formats)]


def write_photos(photos: Mapping[str, bytes], folder: Path) -> list[str]:
    """Writes photos to an existing folder.

    Args:
        photos: bytes of each file, by file name.
        folder: folder to write to.

    Returns:
        The file names, in the order of `photos`.
    """
    for name, data in photos.items():
        (folder / name).write_bytes(data)
    return list(photos)
