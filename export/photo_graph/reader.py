"""The photo reader of the house once more, as operations of a TensorFlow graph: what a server does with a file's bytes.

It reads what `pipelines.images.read_photo` reads and turns, limits and shrinks it alike; pixels that are not shrunk are
the same, and of those that are, few differ, by one or two. Not read are TIFF and BMP of run lengths or 16 bits, nor an
orientation that only XMP states; a PNG whose checksums are wrong is refused, also where Pillow goes on.
"""

from collections.abc import Sequence
from typing import Any

from ..contract.signatures import DAMAGED, OK, TOO_MANY_PIXELS, UNKNOWN_FORMAT
from .file_bytes import FileBytes
from .formats import PhotoFormat, format_number, formats
from .orientation import turned


def photo_pixels(data: Any, size: int, max_pixels: int, webp: bool = True) -> tuple[Any, Any]:
    """Reads one photo; an error in it is told by the status and is never one of the graph.

    Args:
        data: scalar string, the bytes of a file.
        size: the longest side after resizing (Lanczos, antialiased), in pixels; a smaller photo is never enlarged.
        max_pixels: a photo whose header declares more is refused before it is decoded.
        webp: read WebP, too: a graph for TensorFlow versions that have DecodeWebP, as 2.20 has and 2.15 has not.

    Returns:
        Pixels (H, W, 3) uint8 RGB, EXIF turned, transparency on white, (0, 0, 3) where there are none; and a status,
        int32, one of those in `signatures`.
    """
    import tensorflow as tf

    file = FileBytes(data)
    rows = formats(webp)
    number = format_number(file, rows)
    none = tf.zeros((0, 0, 3), tf.uint8)
    header = [lambda row=row: (row.size(file), row.orientation(file)) for row in rows]
    whole, orientation = tf.switch_case(number, [*header, lambda: (tf.zeros(2, tf.int64), tf.constant(1))])
    # In float64: the product of two numbers of 32 bits is more than int64 holds.
    status = tf.where(tf.reduce_prod(tf.cast(whole, tf.float64)) > max_pixels, TOO_MANY_PIXELS, OK)
    status = tf.where(tf.reduce_min(whole) < 1, DAMAGED, status)
    status = tf.where(tf.equal(number, len(rows)), UNKNOWN_FORMAT, status)
    pixels = tf.cond(tf.equal(status, OK), lambda: _upright(file, rows, number, whole, orientation, size), lambda: none)
    pixels = tf.ensure_shape(pixels, (None, None, 3))
    return pixels, tf.where(tf.equal(status, OK) & tf.equal(tf.size(pixels), 0), DAMAGED, status)


def at_least(pixels: Any, smallest: int) -> Any:
    """Pixels (B, H, W, 3) with edges repeated to the right and below until each side has `smallest` pixels."""
    import tensorflow as tf

    for axis in (1, 2):
        side = tf.shape(pixels)[axis]
        pixels = tf.gather(pixels, tf.minimum(tf.range(tf.maximum(side, smallest)), side - 1), axis=axis)
    return pixels


def _upright(file: FileBytes, rows: Sequence[PhotoFormat], number: Any, whole: Any, orientation: Any, size: int) -> Any:
    """Decodes, shrinks and turns a photo whose header is sound; (0, 0, 3) where its pixels are damaged."""
    import tensorflow as tf

    sideways = orientation >= 5
    target = _shrunk(tf.where(sideways, whole[::-1], whole), size)
    target = tf.where(sideways, target[::-1], target)
    decode = [lambda row=row: row.pixels(file, whole, 2 * target) for row in rows]
    pixels, ratio = tf.switch_case(number, decode)
    extent = tf.cast(whole, tf.float32) / ratio
    # A photo that decodes to another size than its header's is damaged.
    sound = tf.reduce_all(tf.equal(tf.cast(tf.shape(pixels)[:2], tf.float32), tf.math.ceil(extent)))
    return tf.cond(
        sound,
        lambda: turned(_resized(pixels, extent, tf.cast(target, tf.int32)), orientation),
        lambda: tf.zeros((0, 0, 3), tf.uint8),
    )


def _shrunk(whole: Any, size: int) -> Any:
    """Height and width, (2,) int64, whose longer one is at most `size` and whose aspect is nearest to that of `whole`.

    Two sizes may be equally near: then the last bit of float64 decides, as in Python. So no divisor is a constant of
    the graph, for those are divided by as TensorFlow finds fastest.
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
    """The upper left `extent` (2,) of pixels, shrunk to `target` (2,): in width, then in height, as Pillow does."""
    import tensorflow as tf

    def shrink() -> Any:
        scale = tf.cast(target, tf.float32) / extent
        columns = _fewer_lines(tf.transpose(pixels, (1, 0, 2)), target[1], scale[1])
        return _fewer_lines(tf.transpose(columns, (1, 0, 2)), target[0], scale[0])

    return tf.cond(tf.reduce_all(tf.equal(tf.shape(pixels)[:2], target)), lambda: pixels, shrink)


def _fewer_lines(lines: Any, count: Any, scale: Any) -> Any:
    """Lines (n, m, 3) of pixels shrunk to `count` lines, by Lanczos windows of three lobes, in whole numbers."""
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
