"""Decodes uncompressed BMP files in a TensorFlow graph.

TensorFlow's own operation is not used, because it interprets palette indices as grey levels.
"""

from typing import Any

from .file_bytes import FileBytes, on_white

_RAW, _MASKS = 0, 3  # values of the header's compression field
_BGRX = b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"  # bit masks of red, green and blue for pixels of four bytes
_ALPHA = b"\0\0\0\xff"


def bmp_size(file: FileBytes) -> Any:
    """Reads height and width of a BMP file from its header, (2,) int64."""
    import tensorflow as tf

    return tf.stack([tf.abs(_signed(file.number(22, 4))), _signed(file.number(18, 4))])


def bmp_pixels(data: Any) -> Any:
    """Decodes an uncompressed BMP file of 1, 4, 8, 24 or 32 bits per pixel to RGB pixels (H, W, 3) uint8.

    The graph fails if the pixels are truncated or stored in another form, such as run lengths or 16 bits per pixel.

    Args:
        data: bytes of the file, a scalar string tensor.
    """
    import tensorflow as tf

    file = FileBytes(data)
    depth, compression = file.number(28, 2), file.number(30, 4)
    masked = tf.equal(compression, _MASKS) & tf.equal(depth, 32) & tf.equal(file.part(54, 12), _BGRX)
    supported = tf.reduce_any(tf.equal(depth, [1, 4, 8, 24, 32])) & (tf.equal(compression, _RAW) | masked)
    with tf.control_dependencies([tf.debugging.Assert(supported, [depth, compression])]):
        rows = _rows(file, depth)
    width = bmp_size(file)[1]
    opaque = ~(masked & (file.number(14, 4) >= 56) & tf.equal(file.part(66, 4), _ALPHA))
    pixels = tf.cond(depth <= 8, lambda: _palette(file, rows, depth), lambda: _channels(rows, depth, width, opaque))
    pixels = pixels[:, :width]
    return tf.cond(_signed(file.number(22, 4)) > 0, lambda: tf.reverse(pixels, [0]), lambda: pixels)


def _rows(file: FileBytes, depth: Any) -> Any:
    """Splits the pixel data into rows, (H, bytes per row) uint8, whose length is padded to a multiple of four bytes."""
    import tensorflow as tf

    height, width = tf.unstack(bmp_size(file), num=2)
    stride = (width * depth + 31) // 32 * 4
    raw = tf.io.decode_raw(file.part(file.number(10, 4), height * stride), tf.uint8)
    return tf.reshape(raw, tf.stack([height, stride]))


def _palette(file: FileBytes, rows: Any, depth: Any) -> Any:
    """Looks up the pixels of rows with 1, 4 or 8 bits per pixel, highest bits first, in the palette."""
    import tensorflow as tf

    stated, colours = file.number(46, 4), tf.bitwise.left_shift(tf.constant(1, tf.int64), depth)
    count = tf.where(tf.equal(stated, 0), colours, stated)
    table = tf.io.decode_raw(file.part(14 + file.number(14, 4), 4 * count), tf.uint8)
    shifts = tf.cast(tf.range(8 - depth, -1, -depth), tf.uint8)
    indexes = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows[:, :, None], shifts), tf.cast(colours - 1, tf.uint8))
    indexes = tf.reshape(indexes, tf.stack([tf.shape(rows)[0], -1]))
    return tf.gather(tf.reshape(table, (-1, 4))[:, 2::-1], tf.cast(indexes, tf.int32))


def _channels(rows: Any, depth: Any, width: Any, opaque: Any) -> Any:
    """Reads the pixels of rows with the bytes blue, green, red and possibly a fourth byte, which is alpha or unused."""
    import tensorflow as tf

    count = depth // 8
    pixels = tf.reshape(rows[:, : width * count], tf.stack([tf.cast(tf.shape(rows)[0], tf.int64), width, count]))
    colours = tf.reverse(pixels[:, :, :3], [2])
    return tf.cond(opaque, lambda: colours, lambda: on_white(tf.concat([colours, pixels[:, :, 3:]], axis=2)))


def _signed(number: Any) -> Any:
    import tensorflow as tf

    return tf.where(number >= 2**31, number - 2**32, number)
