"""Synthetic photos, for the comparison of an exported network with Keras and for warm-up requests."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_ORIENTATION = 0x0112
_SMALL = 64


def drawn_photo(height: int, width: int, file_format: str = "JPEG", **options: Any) -> bytes:
    """Generates a synthetic photo of soft blobs with some noise.

    Args:
        height: height of the photo in pixels.
        width: width of the photo in pixels.
        file_format: Pillow's name of the file format.
        **options: options of Pillow's `Image.save`.

    Returns:
        The bytes of a photo file, identical in every call with the same arguments.
    """
    rng = np.random.default_rng([height, width])
    blobs = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.array(blobs) + rng.normal(0, 12, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, file_format, **options)
    return file.getvalue()


def check_photos(size: int) -> Mapping[str, bytes]:
    """Generates photos that cover every branch of a photo reader: slightly or strongly shrunk, rotated, not resized.

    Args:
        size: longest side in pixels to which the reader shrinks photos.

    Returns:
        A dict that maps each photo's name to the bytes of its file.
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
    """Generates a JPEG that readers shrink to `size`, followed by a small photo in every other format."""
    formats = ("PNG", "GIF", "WEBP", "BMP")
    return [drawn_photo(size, size * 5 // 4), *(drawn_photo(_SMALL, _SMALL, name) for name in formats)]


def write_photos(photos: Mapping[str, bytes], folder: Path) -> list[str]:
    """Writes photos (name -> bytes) into an existing folder; returns their names."""
    for name, data in photos.items():
        (folder / name).write_bytes(data)
    return list(photos)
