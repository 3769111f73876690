"""Detects and decodes the five photo formats of a served network in a TensorFlow graph: JPEG, PNG, GIF, WebP, BMP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .bmp import bmp_pixels, bmp_size
from .file_bytes import FileBytes, attempt, on_white
from .gif import gif_pixels, gif_size
from .orientation import jpeg_orientation, png_chunk, png_orientation, webp_orientation
from .webp import webp_pixels, webp_size


@dataclass(frozen=True)
class PhotoFormat:
    """The detection and the decoder of one photo format; `FORMATS` lists all formats.

    Attributes:
        signatures: bytes that identify files of this format, as pairs of an offset and alternative byte strings at this
            offset; all pairs must match.
        size: function from a file to its height and width in pixels, (2,) int64, read from the header; zeros if the
            header is damaged.
        orientation: function from a file to its EXIF orientation, 1..8 as int32.
        pixels: decoder, a function of the file, its height and width, and the smallest height and width that are
            needed. Returns the RGB pixels (H, W, 3) uint8, blended with white where they are transparent, or (0, 0, 3)
            if they are damaged; and the factor by which the decoder shrank the photo: 1, 2, 4 or 8 for JPEG, otherwise
            1.
    """

    signatures: tuple[tuple[int, tuple[bytes, ...]], ...]
    size: Callable[[FileBytes], Any]
    orientation: Callable[[FileBytes], Any]
    pixels: Callable[[FileBytes, Any, Any], tuple[Any, Any]]


def formats(webp: bool) -> tuple[PhotoFormat, ...]:
    """Returns `FORMATS`, without WebP if `webp` is false, because older versions of TensorFlow cannot decode WebP."""
    return FORMATS if webp else tuple(entry for entry in FORMATS if entry.size is not webp_size)


def format_number(file: FileBytes, entries: Sequence[PhotoFormat]) -> Any:
    """Detects the format of a file by its first bytes.

    Args:
        file: the file.
        entries: formats to choose from.

    Returns:
        The position of the format in `entries`, scalar int32; len(entries) if no format matches.
    """
    import tensorflow as tf

    flags = []
    for entry in entries:
        matches = [tf.reduce_any(tf.equal(file.part(at, len(some[0])), some)) for at, some in entry.signatures]
        flags.append(tf.reduce_all(matches))
    return tf.argmax(tf.stack([*flags, True]), output_type=tf.int32)


def _jpeg_size(file: FileBytes) -> Any:
    import tensorflow as tf

    def read(data: Any) -> Any:
        return tf.io.extract_jpeg_shape(data, output_type=tf.int64)[:2]

    return attempt(read, (file.data,), tf.zeros(2, tf.int64))


def _jpeg_pixels(file: FileBytes, size: Any, least: Any) -> tuple[Any, Any]:
    """Decodes at a reduced size like Pillow's draft mode, because this saves time: libjpeg skips the finest details."""
    import tensorflow as tf

    def decode(data: Any, number: Any) -> Any:
        return tf.switch_case(
            number,
            [
                lambda ratio=ratio: tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")
                for ratio in (1, 2, 4, 8)
            ],
        )

    number = tf.reduce_sum(tf.cast(tf.reduce_min(size // least) >= [2, 4, 8], tf.int32))
    return attempt(decode, (file.data, number), _no_pixels()), tf.cast(tf.constant(2) ** number, tf.float32)


def _png_size(file: FileBytes) -> Any:
    import tensorflow as tf

    size = tf.stack([file.number(20, 4, True), file.number(16, 4, True)])
    return tf.where(tf.equal(file.part(12, 4), b"IHDR"), size, 0)


def _png_pixels(file: FileBytes, size: Any, least: Any) -> tuple[Any, Any]:
    """Decodes alpha only if the file has it, because TensorFlow adds a wrong alpha below eight bits per channel."""
    import tensorflow as tf

    def decode(data: Any, alpha: Any) -> Any:
        return tf.cond(
            alpha,
            lambda: on_white(tf.io.decode_png(data, channels=4)),
            lambda: tf.io.decode_png(data, channels=3),
        )

    transparent_colour = tf.equal(file.part(png_chunk(file, b"tRNS") + 4, 4), b"tRNS")
    alpha = transparent_colour | tf.reduce_any(tf.equal(file.number(25, 1), [4, 6]))
    return attempt(decode, (file.data, alpha), _no_pixels()), tf.constant(1.0)


def _attempted(decode: Callable[[Any], Any]) -> Callable[[FileBytes, Any, Any], tuple[Any, Any]]:
    def pixels(file: FileBytes, size: Any, least: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        return attempt(decode, (file.data,), _no_pixels()), tf.constant(1.0)

    return pixels


def _no_pixels() -> Any:
    import tensorflow as tf

    return tf.zeros((0, 0, 3), tf.uint8)


def _upright(file: FileBytes) -> Any:
    """Returns the orientation 1, upright, for files of a format without EXIF data."""
    import tensorflow as tf

    return tf.constant(1)


FORMATS = (
    PhotoFormat(((0, (b"\xff\xd8\xff",)),), _jpeg_size, jpeg_orientation, _jpeg_pixels),
    PhotoFormat(((0, (b"\x89PNG\r\n\x1a\n",)),), _png_size, png_orientation, _png_pixels),
    PhotoFormat(((0, (b"GIF87a", b"GIF89a")),), gif_size, _upright, _attempted(gif_pixels)),
    PhotoFormat(((0, (b"RIFF",)), (8, (b"WEBP",))), webp_size, webp_orientation, _attempted(webp_pixels)),
    PhotoFormat(((0, (b"BM",)),), bmp_size, _upright, _attempted(bmp_pixels)),
)
"""All supported formats; `format_number` returns a position in this tuple."""
