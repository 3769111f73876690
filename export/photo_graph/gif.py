"""Decodes the first frame of a GIF file in a TensorFlow graph.

TensorFlow's own operation decodes every frame of an animation, although a small file can contain very many, and decodes
transparent pixels as the palette colour that marks transparency. Its input is therefore a GIF of one frame, composed
from the bytes of the first frame, in whose palette the transparent colour is white.
"""

from typing import Any

from .file_bytes import FileBytes, as_bytes

_MAX_BLOCKS = 2**17  # maximum number of data blocks of up to 255 bytes in a frame, 32 MiB in all
_EXTENSION, _FRAME, _CONTROL = b"!", b",", b"!\xf9"
_TABLE, _TRANSPARENT, _INTERLACED, _TABLE_SIZE = 128, 1, 64, 7  # bits of the flag bytes


def gif_size(file: FileBytes) -> Any:
    """Reads height and width of a GIF file in pixels.

    Returns:
        The size of the screen (the canvas of the file), enlarged to contain the first frame, (2,) int64; zeros if there
        is no frame.
    """
    import tensorflow as tf

    at = _frame(file)
    enlarged = tf.maximum(_pair(file, 6), tf.reduce_sum(_box(file, at), axis=0))
    return tf.where(tf.equal(file.part(at, 1), _FRAME), enlarged, 0)


def gif_pixels(data: Any) -> Any:
    """Decodes the first frame of a GIF file, placed on its screen, to RGB pixels (H, W, 3) uint8.

    Transparent pixels become white. The graph fails if the frame is truncated or has no palette.

    Args:
        data: bytes of the file, a scalar string tensor.
    """
    import tensorflow as tf

    file = FileBytes(data)
    at, transparent = _frame(file), _transparent_colour(file)
    palette = _palette(file, at)
    palette = tf.where(
        tf.equal(tf.range(tf.shape(palette)[0])[:, None], transparent), tf.constant(255, tf.uint8), palette
    )
    pixels = tf.io.decode_gif(_single_frame(file, at, palette))[0]
    start, extent = tf.unstack(_box(file, at), num=2)
    around = tf.stack([start, gif_size(file) - start - extent], axis=1)
    background = palette[tf.maximum(transparent, 0)]
    # Because uint8 wraps around, adding the background restores the pixels and turns the padding of 0 into background.
    return tf.pad(pixels - background, tf.concat([around, tf.zeros((1, 2), tf.int64)], axis=0)) + background


def _frame(file: FileBytes) -> Any:
    """Finds the offset of the first frame; if there is no frame, the offset at which the search stopped."""
    return file.find_chunk(
        _first_block(file), lambda at: _end_of_blocks(file, at + 2), lambda at: ~_is_extension(file, at)
    )


def _transparent_colour(file: FileBytes) -> Any:
    """Reads the palette index of the transparent colour of the first frame, int32; -1 if there is none."""
    import tensorflow as tf

    at = file.find_chunk(
        _first_block(file),
        lambda at: _end_of_blocks(file, at + 2),
        lambda at: ~_is_extension(file, at) | tf.equal(file.part(at, 2), _CONTROL),
    )
    stated = tf.equal(file.part(at, 2), _CONTROL) & _has(file.number(at + 3, 1), _TRANSPARENT)
    return tf.where(stated, tf.cast(file.number(at + 6, 1), tf.int32), -1)


def _is_extension(file: FileBytes, at: Any) -> Any:
    import tensorflow as tf

    return tf.equal(file.part(at, 1), _EXTENSION)


def _first_block(file: FileBytes) -> Any:
    return 13 + _table_length(file.number(10, 1))


def _end_of_blocks(file: FileBytes, at: Any) -> Any:
    """Finds the offset after the data blocks that begin at `at`. A block starts with its length; the last is empty."""
    import tensorflow as tf

    return 1 + file.find_chunk(
        at, lambda at: at + 1 + file.number(at, 1), lambda at: tf.equal(file.number(at, 1), 0), _MAX_BLOCKS
    )


def _pair(file: FileBytes, at: Any) -> Any:
    """Reads two numbers of two bytes as (height, width) or (top, left), which GIF stores in the opposite order."""
    import tensorflow as tf

    return tf.stack([file.number(at + 2, 2), file.number(at, 2)])


def _box(file: FileBytes, at: Any) -> Any:
    """Reads the position ((top, left), (height, width)) on the screen of the frame at offset `at`."""
    import tensorflow as tf

    return tf.stack([_pair(file, at + 1), _pair(file, at + 5)])


def _palette(file: FileBytes, at: Any) -> Any:
    """Reads the palette (colours, 3) uint8 of the frame at offset `at`, or that of the screen if the frame has none."""
    import tensorflow as tf

    own, common = file.number(at + 9, 1), file.number(10, 1)
    from_frame = _has(own, _TABLE)
    count = tf.where(from_frame, _table_length(own), _table_length(common))
    table = tf.io.decode_raw(file.part(tf.where(from_frame, at + 10, 13), count), tf.uint8)
    return tf.reshape(table, (-1, 3))


def _single_frame(file: FileBytes, at: Any, palette: Any) -> Any:
    """Composes a GIF that contains only the frame at offset `at`, with a screen of its size and the given palette."""
    import tensorflow as tf

    flags = file.number(at + 9, 1)
    pixels = at + 10 + _table_length(flags)
    bits = tf.reduce_sum(tf.cast(tf.shape(palette)[0] > [2, 4, 8, 16, 32, 64, 128], tf.int64))
    flags = tf.bitwise.bitwise_and(flags, _INTERLACED) + _TABLE + bits
    extent, end = file.part(at + 5, 4), _end_of_blocks(file, pixels + 1)
    with tf.control_dependencies([tf.debugging.Assert(end <= file.length, ["the frame ends too early"])]):
        content = file.part(pixels, end - pixels)
    return tf.strings.join(
        [
            *(b"GIF89a", extent, b"\0\0\0", b",\0\0\0\0", extent, as_bytes(flags[None])),
            as_bytes(tf.reshape(palette, (-1,))),
            *(content, b";"),
        ]
    )


def _table_length(flags: Any) -> Any:
    """Returns the size in bytes of the palette that a flag byte declares; 0 if it declares none."""
    import tensorflow as tf

    size = 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), tf.bitwise.bitwise_and(flags, _TABLE_SIZE))
    return tf.where(_has(flags, _TABLE), size, 0)


def _has(flags: Any, bit: int) -> Any:
    import tensorflow as tf

    return tf.bitwise.bitwise_and(flags, bit) > 0
