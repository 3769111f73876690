"""Photos of five formats decoded by operations of a TensorFlow graph: JPEG, PNG, GIF, WebP and BMP."""

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
    """A row of FORMATS.

    Attributes:
        starts: how its files begin: (where, bytes, or else bytes ..) each.
        size: height and width (2,) int64 from the header; 0 where it is damaged.
        orientation: EXIF's, 1..8 as int32.
        pixels: file, its size, the least size that is of use -> pixels (H, W, 3) uint8, transparency on white,
            (0, 0, 3) where they are damaged, and by how much they are shrunk: a JPEG by 1, 2, 4 or 8, the others by 1.
    """

    starts: tuple[tuple[int, tuple[bytes, ...]], ...]
    size: Callable[[FileBytes], Any]
    orientation: Callable[[FileBytes], Any]
    pixels: Callable[[FileBytes, Any, Any], tuple[Any, Any]]


def formats(webp: bool) -> tuple[PhotoFormat, ...]:
    """The rows of FORMATS; without WebP, whose operation TensorFlow has had for few versions, on request."""
    return FORMATS if webp else tuple(row for row in FORMATS if row.size is not webp_size)


def format_number(file: FileBytes, rows: Sequence[PhotoFormat]) -> Any:
    """The row, int32, that a file's first bytes name; len(rows) where none does."""
    import tensorflow as tf

    flags = []
    for row in rows:
        marks = [tf.reduce_any(tf.equal(file.part(at, len(starts[0])), starts)) for at, starts in row.starts]
        flags.append(tf.reduce_all(marks))
    return tf.argmax(tf.stack([*flags, True]), output_type=tf.int32)


def _jpeg_size(file: FileBytes) -> Any:
    import tensorflow as tf

    def read(data: Any) -> Any:
        return tf.io.extract_jpeg_shape(data, output_type=tf.int64)[:2]

    return attempt(read, (file.data,), tf.zeros(2, tf.int64))


def _jpeg_pixels(file: FileBytes, size: Any, least: Any) -> tuple[Any, Any]:
    """As Pillow's draft: libjpeg leaves out the finest detail, which costs less than to decode it."""
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
    return attempt(decode, (file.data, number), _nothing()), tf.cast(tf.constant(2) ** number, tf.float32)


def _png_size(file: FileBytes) -> Any:
    import tensorflow as tf

    size = tf.stack([file.number(20, 4, True), file.number(16, 4, True)])
    return tf.where(tf.equal(file.part(12, 4), b"IHDR"), size, 0)


def _png_pixels(file: FileBytes, size: Any, least: Any) -> tuple[Any, Any]:
    """Alpha is asked for only where there is one: TensorFlow's stand-in is wrong below eight bits."""
    import tensorflow as tf

    def decode(data: Any, alpha: Any) -> Any:
        return tf.cond(
            alpha,
            lambda: on_white(tf.io.decode_png(data, channels=4)),
            lambda: tf.io.decode_png(data, channels=3),
        )

    one_colour = tf.equal(file.part(png_chunk(file, b"tRNS") + 4, 4), b"tRNS")
    alpha = one_colour | tf.reduce_any(tf.equal(file.number(25, 1), [4, 6]))
    return attempt(decode, (file.data, alpha), _nothing()), tf.constant(1.0)


def _attempted(decode: Callable[[Any], Any]) -> Callable[[FileBytes, Any, Any], tuple[Any, Any]]:
    def pixels(file: FileBytes, size: Any, least: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        return attempt(decode, (file.data,), _nothing()), tf.constant(1.0)

    return pixels


def _nothing() -> Any:
    import tensorflow as tf

    return tf.zeros((0, 0, 3), tf.uint8)


def _upright(file: FileBytes) -> Any:
    """The orientation of a format that carries no EXIF."""
    import tensorflow as tf

    return tf.constant(1)


FORMATS = (
    PhotoFormat(((0, (b"\xff\xd8\xff",)),), _jpeg_size, jpeg_orientation, _jpeg_pixels),
    PhotoFormat(((0, (b"\x89PNG\r\n\x1a\n",)),), _png_size, png_orientation, _png_pixels),
    PhotoFormat(((0, (b"GIF87a", b"GIF89a")),), gif_size, _upright, _attempted(gif_pixels)),
    PhotoFormat(((0, (b"RIFF",)), (8, (b"WEBP",))), webp_size, webp_orientation, _attempted(webp_pixels)),
    PhotoFormat(((0, (b"BM",)),), bmp_size, _upright, _attempted(bmp_pixels)),
)
"""In the order of `format_number`."""
