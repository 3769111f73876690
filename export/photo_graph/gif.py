"""The first frame of a GIF, decoded by operations of a TensorFlow graph.

TensorFlow's own operation unpacks every frame of an animation, however many a small file has, and shows the colour that
stands for transparency. So it is given a GIF of one frame, made of the bytes of the first, with that colour white.
"""

from typing import Any

from .file_bytes import FileBytes, as_bytes

_BLOCKS = 2**17  # of up to 255 bytes: 32 MiB of a frame's data
_EXTENSION, _FRAME, _CONTROL = b"!", b",", b"!\xf9"
_TABLE, _CLEAR, _INTERLACED, _TABLE_SIZE = 128, 1, 64, 7  # bits of flags


def gif_size(file: FileBytes) -> Any:
    """Height and width of a GIF, (2,) int64: its screen, grown to hold its first frame; 0 if it has none."""
    import tensorflow as tf

    at = _frame(file)
    grown = tf.maximum(_pair(file, 6), tf.reduce_sum(_box(file, at), axis=0))
    return tf.where(tf.equal(file.part(at, 1), _FRAME), grown, 0)


def gif_pixels(data: Any) -> Any:
    """Pixels (H, W, 3) uint8 of a GIF's first frame on its screen, transparency on white.

    An error of the graph where the frame ends too early or has no colours.
    """
    import tensorflow as tf

    file = FileBytes(data)
    at, clear = _frame(file), _transparent(file)
    palette = _palette(file, at)
    palette = tf.where(tf.equal(tf.range(tf.shape(palette)[0])[:, None], clear), tf.constant(255, tf.uint8), palette)
    pixels = tf.io.decode_gif(_alone(file, at, palette))[0]
    start, extent = tf.unstack(_box(file, at), num=2)
    around = tf.stack([start, gif_size(file) - start - extent], axis=1)
    ground = palette[tf.maximum(clear, 0)]
    # Bytes wrap around, so that what is padded with 0 here is ground in the end.
    return tf.pad(pixels - ground, tf.concat([around, tf.zeros((1, 2), tf.int64)], axis=0)) + ground


def _frame(file: FileBytes) -> Any:
    """Where the first frame begins, if there is one."""
    return file.walk(_first_block(file), lambda at: _behind(file, at + 2), lambda at: ~_is_extension(file, at))


def _transparent(file: FileBytes) -> Any:
    """The number of the colour that stands for transparency in the first frame, -1 where none does; int32."""
    import tensorflow as tf

    at = file.walk(
        _first_block(file),
        lambda at: _behind(file, at + 2),
        lambda at: ~_is_extension(file, at) | tf.equal(file.part(at, 2), _CONTROL),
    )
    stated = tf.equal(file.part(at, 2), _CONTROL) & _has(file.number(at + 3, 1), _CLEAR)
    return tf.where(stated, tf.cast(file.number(at + 6, 1), tf.int32), -1)


def _is_extension(file: FileBytes, at: Any) -> Any:
    import tensorflow as tf

    return tf.equal(file.part(at, 1), _EXTENSION)


def _first_block(file: FileBytes) -> Any:
    return 13 + _table_length(file.number(10, 1))


def _behind(file: FileBytes, at: Any) -> Any:
    """Where a run of blocks that begins at `at` has ended; each is led by its length, and the last is empty."""
    import tensorflow as tf

    return 1 + file.walk(
        at, lambda at: at + 1 + file.number(at, 1), lambda at: tf.equal(file.number(at, 1), 0), _BLOCKS
    )


def _pair(file: FileBytes, at: Any) -> Any:
    """Two numbers of two bytes, the second first, as (height, width) are stored."""
    import tensorflow as tf

    return tf.stack([file.number(at + 2, 2), file.number(at, 2)])


def _box(file: FileBytes, at: Any) -> Any:
    """((top, left), (height, width)) of the frame that begins at `at`, on the screen."""
    import tensorflow as tf

    return tf.stack([_pair(file, at + 1), _pair(file, at + 5)])


def _palette(file: FileBytes, at: Any) -> Any:
    """(colours, 3) uint8: the frame's own, else the screen's."""
    import tensorflow as tf

    own, common = file.number(at + 9, 1), file.number(10, 1)
    from_frame = _has(own, _TABLE)
    count = tf.where(from_frame, _table_length(own), _table_length(common))
    table = tf.io.decode_raw(file.part(tf.where(from_frame, at + 10, 13), count), tf.uint8)
    return tf.reshape(table, (-1, 3))


def _alone(file: FileBytes, at: Any, palette: Any) -> Any:
    """A GIF of the one frame at `at`, as large as its screen, of these colours."""
    import tensorflow as tf

    flags = file.number(at + 9, 1)
    pixels = at + 10 + _table_length(flags)
    bits = tf.reduce_sum(tf.cast(tf.shape(palette)[0] > [2, 4, 8, 16, 32, 64, 128], tf.int64))
    flags = tf.bitwise.bitwise_and(flags, _INTERLACED) + _TABLE + bits
    extent, end = file.part(at + 5, 4), _behind(file, pixels + 1)
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
    """Bytes of the table of colours that flags tell of."""
    import tensorflow as tf

    size = 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), tf.bitwise.bitwise_and(flags, _TABLE_SIZE))
    return tf.where(_has(flags, _TABLE), size, 0)


def _has(flags: Any, bit: int) -> Any:
    import tensorflow as tf

    return tf.bitwise.bitwise_and(flags, bit) > 0
