"""Decodes WebP files in a TensorFlow graph; only the first frame of an animation is decoded.

TensorFlow's own operation decodes every frame of an animation, and corrupts memory if it chooses the number of channels
itself. Therefore its input is a WebP file composed from the bytes of the first frame, and its number of channels is
given.
"""

from typing import Any

from .file_bytes import FileBytes, as_bytes, attempt, on_white
from .orientation import webp_chunk

_ANIMATED, _ALPHA = 2, b"\x10\0\0\0"


def webp_size(file: FileBytes) -> Any:
    """Reads height and width of a WebP file from its header, (2,) int64; for an animation, those of its canvas."""
    import tensorflow as tf

    def lossless() -> Any:
        bits = file.number(21, 4)
        return tf.stack([tf.bitwise.right_shift(bits, 14) % 2**14 + 1, bits % 2**14 + 1])

    def lossy() -> Any:
        return tf.stack([file.number(28, 2), file.number(26, 2)]) % 2**14

    # Other chunks are rejected, although libwebp decodes them, because the header does not contain their size.
    kind = tf.equal(file.part(12, 4), [b"VP8X", b"VP8L", b"VP8 "])
    sizes = [lambda: _pair(file, 24) + 1, lossless, lossy, lambda: tf.zeros(2, tf.int64)]
    return tf.switch_case(tf.where(tf.reduce_any(kind), tf.argmax(kind, output_type=tf.int32), 3), sizes)


def webp_pixels(data: Any) -> Any:
    """Decodes a WebP file, or the first frame of an animation, to RGB pixels (H, W, 3) uint8.

    Transparent pixels are blended with white. The graph fails if the file is damaged.

    Args:
        data: bytes of the file, a scalar string tensor.
    """
    import tensorflow as tf

    file = FileBytes(data)
    return on_white(tf.cond(_animated(file), lambda: _first_frame(file), lambda: _decoded(data)))


def _animated(file: FileBytes) -> Any:
    import tensorflow as tf

    extended = tf.equal(file.part(12, 4), b"VP8X")
    return extended & (tf.bitwise.bitwise_and(file.number(20, 1), _ANIMATED) > 0)


def _decoded(data: Any) -> Any:
    """Decodes a WebP file without animation to RGBA pixels (H, W, 4).

    The number of channels of the file is found by trial, because the operation fails before decoding if it is another
    number.
    """
    import tensorflow as tf

    none = tf.zeros((0, 0, 4), tf.uint8)
    pixels = attempt(lambda data: tf.io.decode_webp(data, channels=4)[0], (data,), none)

    def opaque() -> Any:
        colours = tf.io.decode_webp(data, channels=3)[0]
        return tf.pad(colours, ((0, 0), (0, 0), (0, 1)), constant_values=255)

    return tf.cond(tf.size(pixels) > 0, lambda: pixels, opaque)


def _first_frame(file: FileBytes) -> Any:
    """Decodes the first frame on a transparent canvas, (H, W, 4)."""
    import tensorflow as tf

    at = webp_chunk(file, b"ANMF")
    start, extent, canvas = 2 * _pair(file, at + 8), _pair(file, at + 14) + 1, webp_size(file)
    around = tf.stack([start, canvas - start - extent], axis=1)
    with tf.control_dependencies(
        [tf.debugging.Assert(tf.reduce_min(around) >= 0, ["the frame extends beyond its canvas"])]
    ):
        pixels = _decoded(_single_frame(file, at))
    return tf.pad(pixels, tf.concat([around, tf.zeros((1, 2), tf.int64)], axis=0))


def _single_frame(file: FileBytes, at: Any) -> Any:
    """Composes a WebP file that contains only the frame at offset `at`, on a canvas of the frame's size."""
    import tensorflow as tf

    content = file.part(at + 24, file.number(at + 4, 4) - 16)
    header = tf.strings.join([b"VP8X\x0a\0\0\0", _ALPHA, file.part(at + 14, 6)])
    extended = tf.strings.join([b"WEBP", header, content])
    count = tf.bitwise.right_shift(tf.strings.length(extended), [0, 8, 16, 24]) % 256
    return tf.strings.join([b"RIFF", as_bytes(count), extended])


def _pair(file: FileBytes, at: Any) -> Any:
    """Reads two numbers of three bytes as (height, width) or (top, left), which WebP stores in the opposite order."""
    import tensorflow as tf

    return tf.stack([file.number(at + 3, 3), file.number(at, 3)])
