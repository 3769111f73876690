"""Photos that are drawn where none are given: to compare with, and to warm a server up."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_ORIENTATION = 0x0112
_SMALL = 64


def drawn_photo(height: int, width: int, form: str = "JPEG", **options: Any) -> bytes:
    """A file of soft blobs with some noise.

    Args:
        height: in pixels.
        width: in pixels.
        form: as Pillow names it.
        **options: for Pillow to save it.
    """
    chance = np.random.default_rng([height, width])
    blobs = Image.fromarray(chance.integers(0, 256, (7, 9, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    pixels = np.array(blobs) + chance.normal(0, 12, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, form, **options)
    return file.getvalue()


def check_photos(size: int) -> Mapping[str, bytes]:
    """Photos that go every way through a reader: shrunk a little and much, turned, at size; name -> file."""
    turn = Image.Exif()
    turn[_ORIENTATION] = 6
    return {
        "shrunk.jpg": drawn_photo(size, size * 5 // 4, quality=90),
        "drafted.jpg": drawn_photo(size * 2, size * 5 // 2, quality=90),
        "turned.jpg": drawn_photo(max(1, size * 3 // 4), size, exif=turn),
        "at_size.png": drawn_photo(size, max(1, size * 2 // 3), "PNG"),
    }


def warm_up_photos(size: int) -> list[bytes]:
    """A photo that is shrunk to `size`, then a small one of every other format."""
    forms = ("PNG", "GIF", "WEBP", "BMP")
    return [drawn_photo(size, size * 5 // 4), *(drawn_photo(_SMALL, _SMALL, form) for form in forms)]


def write_photos(photos: Mapping[str, bytes], folder: Path) -> list[str]:
    """Writes files into a folder that is there; returns their names."""
    for name, data in photos.items():
        (folder / name).write_bytes(data)
    return list(photos)
