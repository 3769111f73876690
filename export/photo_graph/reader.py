"""Reads photos in the TensorFlow graph of a served network, from the bytes of a file to pixels.

The result is the same as that of `pipelines.photos.reader.read_photo`: photos are rotated, limited in size and shrunk
in the same way. Without resizing, pixels are identical; with resizing, a few pixels differ by one or two. TIFF files,
BMP files with run lengths or 16 bits per pixel, and orientations that only XMP metadata state are not supported. A PNG
file with wrong checksums is rejected, even if Pillow reads it.
"""

from collections.abc import Sequence
from typing import Any

from ..contract.signatures import DAMAGED, OK, TOO_MANY_PIXELS, UNKNOWN_FORMAT
from .file_bytes import FileBytes
from .formats import PhotoFormat, format_number, formats
from .orientation import turned


def photo_pixels(data: Any, size: int, max_pixels: int, webp: bool = True) -> tuple[Any, Any]:
    """Reads one photo. If the photo is damaged, the status is set and the graph does not fail.

    Args:
        data: bytes of the file, a scalar string tensor.
        size: longest side in pixels after resizing (Lanczos, antialiased); photos are never enlarged.
        max_pixels: maximum number of pixels; a photo whose header declares more pixels is rejected before it is
            decoded.
        webp: whether the graph can read WebP, for which it contains the operation DecodeWebP. TensorFlow 2.20 has this
            operation, TensorFlow 2.19 and earlier do not.

    Returns:
        The pixels and the status. The pixels are RGB, (H, W, 3) uint8, rotated upright by the EXIF orientation and
        blended with white where they are transparent; (0, 0, 3) if the photo cannot be read. The status is a code of
        `contract.signatures`, scalar int32.
    """
    import tensorflow as tf

    file = FileBytes(data)
    entries = formats(webp)
    number = format_number(file, entries)
    none = tf.zeros((0, 0, 3), tf.uint8)
    header = [lambda entry=entry: (entry.size(file), entry.orientation(file)) for entry in entries]
    whole, orientation = tf.switch_case(number, [*header, lambda: (tf.zeros(2, tf.int64), tf.constant(1))])
    # In float64, because the product of two 32-bit numbers can exceed int64.
    status = tf.where(tf.reduce_prod(tf.cast(whole, tf.float64)) > max_pixels, TOO_MANY_PIXELS, OK)
    status = tf.where(tf.reduce_min(whole) < 1, DAMAGED, status)
    status = tf.where(tf.equal(number, len(entries)), UNKNOWN_FORMAT, status)
    pixels = tf.cond(
        tf.equal(status, OK), lambda: _upright(file, entries, number, whole, orientation, size), lambda: none
    )
    pixels = tf.ensure_shape(pixels, (None, None, 3))
    return pixels, tf.where(tf.equal(status, OK) & tf.equal(tf.size(pixels), 0), DAMAGED, status)


def at_least(pixels: Any, smallest: int) -> Any:
    """Pads pixels at the right and at the bottom, by repeating the last column and row, to a smallest side.

    Args:
        pixels: pixels, (B, H, W, 3).
        smallest: smallest height and width of the result.
    """
    import tensorflow as tf

    for axis in (1, 2):
        side = tf.shape(pixels)[axis]
        pixels = tf.gather(pixels, tf.minimum(tf.range(tf.maximum(side, smallest)), side - 1), axis=axis)
    return pixels


def _upright(
    file: FileBytes, entries: Sequence[PhotoFormat], number: Any, whole: Any, orientation: Any, size: int
) -> Any:
    """Decodes, shrinks and rotates a photo whose header is valid; returns (0, 0, 3) if its pixels are damaged."""
    import tensorflow as tf

    sideways = orientation >= 5
    target = _shrunk(tf.where(sideways, whole[::-1], whole), size)
    target = tf.where(sideways, target[::-1], target)
    decode = [lambda entry=entry: entry.pixels(file, whole, 2 * target) for entry in entries]
    pixels, ratio = tf.switch_case(number, decode)
    extent = tf.cast(whole, tf.float32) / ratio
    # A photo whose decoded size differs from that in its header is damaged.
    intact = tf.reduce_all(tf.equal(tf.cast(tf.shape(pixels)[:2], tf.float32), tf.math.ceil(extent)))
    return tf.cond(
        intact,
        lambda: turned(_resized(pixels, extent, tf.cast(target, tf.int32)), orientation),
        lambda: tf.zeros((0, 0, 3), tf.uint8),
    )


def _shrunk(whole: Any, size: int) -> Any:
    """Computes height and width (2,) int64, at most `size`, with the aspect ratio nearest to that of `whole`.

    If two sizes are equally near, the last bit of float64 decides, as in Python. Therefore no divisor may be a constant
    of the graph, because TensorFlow would replace the division by a faster operation that rounds differently.
    """
    import tensorflow as tf

    height, width = tf.unstack(tf.cast(whole, tf.float64), num=2)
    longest = tf.minimum(tf.maximum(width, height), size)
    exact = longest * tf.minimum(width, height) / tf.maximum(width, height)
    shorts = tf.maximum(tf.stack([tf.floor(exact), tf.math.ceil(exact)]), 1)
    tall = width < height
    aspects = tf.where(tall, shorts / longest, longest / shorts)
    short = shorts[tf.argmin(tf.abs(width / height - aspects))]
    return tf.cast(tf.where(tall, tf.stack([longest, short]), tf.stack([short, longest])), tf.int64)


def _resized(pixels: Any, extent: Any, target: Any) -> Any:
    """Shrinks the upper left `extent` (2,) of the pixels to `target` (2,), first in width, then in height."""
    import tensorflow as tf

    def shrink() -> Any:
        scale = tf.cast(target, tf.float32) / extent
        columns = _fewer_lines(tf.transpose(pixels, (1, 0, 2)), target[1], scale[1])
        return _fewer_lines(tf.transpose(columns, (1, 0, 2)), target[0], scale[0])

    return tf.cond(tf.reduce_all(tf.equal(tf.shape(pixels)[:2], target)), lambda: pixels, shrink)


def _fewer_lines(lines: Any, count: Any, scale: Any) -> Any:
    """Shrinks n lines (n, m, 3) of pixels to `count` lines with a Lanczos window of three lobes, rounded to uint8."""
    import tensorflow as tf

    length = tf.shape(lines)[1]
    fewer = tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(lines, (1, -1, 1, 3 * length)),
        size=tf.stack([count, 1]),
        scale=tf.stack([scale, 1.0]),
        translation=tf.zeros(2),
        kernel_type="lanczos3",
        antialias=True,
    )
    whole = tf.cast(tf.clip_by_value(tf.round(fewer), 0, 255), tf.uint8)
    return tf.reshape(whole, (count, length, 3))
