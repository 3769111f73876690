"""Reads the EXIF orientation of JPEG, PNG and WebP files in a TensorFlow graph, and rotates pixels accordingly."""

from typing import Any

from .file_bytes import FileBytes, from_digits

_TAG, _BYTE, _SHORT, _LONG = 0x0112, 1, 3, 4
_EXIF = b"Exif\0\0"


def jpeg_orientation(file: FileBytes) -> Any:
    """Reads the EXIF orientation of a JPEG file, 1..8 as int32; 1 if it is missing, damaged or after the pixel data."""
    import tensorflow as tf

    def length(at: Any) -> Any:
        return file.number(at + 2, 2, True)

    def next_segment(at: Any) -> Any:
        # Any number of fill bytes 0xFF may precede a segment.
        return at + tf.where(tf.equal(file.part(at, 2), b"\xff\xff"), tf.constant(1, tf.int64), 2 + length(at))

    def is_exif_or_pixels(at: Any) -> Any:
        exif = tf.equal(file.part(at, 2), b"\xff\xe1") & tf.equal(file.part(at + 4, 6), _EXIF)
        return exif | tf.equal(file.part(at, 2), b"\xff\xda")

    at = file.find_chunk(2, next_segment, is_exif_or_pixels)
    # If the search stopped at the pixels (0xFFDA), there is no EXIF data and the result is 1.
    return _orientation(file, at + 4, at + 2 + length(at))


def png_orientation(file: FileBytes) -> Any:
    """Reads the EXIF orientation of a PNG file, 1..8 as int32; 1 if it is missing, damaged or after the pixel data."""
    import tensorflow as tf

    at = png_chunk(file, b"eXIf")
    length = tf.where(tf.equal(file.part(at + 4, 4), b"eXIf"), file.number(at, 4, True), 0)
    return _orientation(file, at + 8, at + 8 + length)


def webp_orientation(file: FileBytes) -> Any:
    """Reads the EXIF orientation of a WebP file, stored after the pixels, 1..8 as int32; 1 if missing or damaged."""
    at = webp_chunk(file, b"EXIF")
    return _orientation(file, at + 8, at + 8 + file.number(at + 4, 4))


def png_chunk(file: FileBytes, name: bytes) -> Any:
    """Finds the offset of the chunk called `name` in a PNG file, or of the first pixel data if this comes earlier."""
    import tensorflow as tf

    return file.find_chunk(
        8,
        lambda at: at + 12 + file.number(at, 4, True),
        lambda at: tf.reduce_any(tf.equal(file.part(at + 4, 4), [name, b"IDAT"])),
    )


def webp_chunk(file: FileBytes, name: bytes) -> Any:
    """Finds the offset of the chunk called `name` in a WebP file, or the end of the file if there is no such chunk."""
    import tensorflow as tf

    return file.find_chunk(
        12,
        lambda at: at + 8 + (file.number(at + 4, 4) + 1) // 2 * 2,
        lambda at: tf.equal(file.part(at, 4), name),
    )


def turned(pixels: Any, orientation: Any) -> Any:
    """Rotates and mirrors pixels so that the photo is upright.

    Args:
        pixels: pixels as stored in the file, (H, W, 3).
        orientation: EXIF orientation, scalar int32, 1..8.

    Returns:
        The upright pixels, (H, W, 3), or (W, H, 3) for orientations 5 to 8.
    """
    import tensorflow as tf

    def flip(pixels: Any, axis: int, *orientations: int) -> Any:
        flipped = tf.reduce_any(tf.equal(orientation, orientations))
        return tf.cond(flipped, lambda: tf.reverse(pixels, [axis]), lambda: pixels)

    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    return flip(flip(pixels, 0, 3, 4, 7, 8), 1, 2, 3, 6, 7)


def _orientation(file: FileBytes, at: Any, end: Any) -> Any:
    """Reads the orientation from the first directory of the EXIF data between `at` and `end`; 1 if there is none."""
    import tensorflow as tf

    at += tf.where(tf.equal(file.part(at, len(_EXIF)), _EXIF), tf.constant(len(_EXIF), tf.int64), 0)
    big_endian = tf.equal(file.part(at, 2), b"MM")
    directory = at + file.number(at + 4, 4, big_endian)
    end = tf.minimum(end, file.length)
    count = tf.minimum(file.number(directory, 2, big_endian), (end - directory - 2) // 12)
    count = tf.where(big_endian | tf.equal(file.part(at, 2), b"II"), tf.maximum(count, 0), 0)
    entries = tf.io.decode_raw(file.part(directory + 2, 12 * count), tf.uint8)
    value = _orientation_of(tf.cast(tf.reshape(entries, (-1, 12)), tf.int64), big_endian)
    return tf.where((value >= 1) & (value <= 8), tf.cast(value, tf.int32), 1)


def _orientation_of(entries: Any, big_endian: Any) -> Any:
    """Finds the orientation among the entries (n, 12) of an EXIF directory; 0 if there is none."""
    import tensorflow as tf

    def column(first: int, count: int) -> Any:
        return from_digits(entries[:, first : first + count], count, big_endian)

    kind = column(2, 2)
    value = tf.zeros_like(kind)
    for number, count in ((_BYTE, 1), (_SHORT, 2), (_LONG, 4)):
        value = tf.where(tf.equal(kind, number), column(8, count), value)
    value = tf.where(tf.equal(column(0, 2), _TAG) & tf.equal(column(4, 4), 1), value, 0)
    return tf.reduce_max(tf.concat([value, [0]], axis=0))
