"""Decodes WebP in a TensorFlow graph; of an animation, only the first frame.

TensorFlow's own operation decodes every frame of an animation, and corrupts memory if it chooses the number of channels
itself. Its input is therefore a WebP composed from the bytes of the first frame, with the number of channels.
"""

from typing import Any

from .file_bytes import FileBytes, as_bytes, attempt, on_white
from .orientation import webp_chunk

_ANIMATED, _ALPHA = 2, b"\x10\0\0\0"


def webp_size(file: FileBytes) -> Any:
    """Reads height and width of a WebP, (2,) int64, from its header; for an animation, those of the canvas."""
    import tensorflow as tf

    def lossless() -> Any:
        bits = file.number(21, 4)
        return tf.stack([tf.bitwise.right_shift(bits, 14) % 2**14 + 1, bits % 2**14 + 1])

    def lossy() -> Any:
        return tf.stack([file.number(28, 2), file.number(26, 2)]) % 2**14

    # libwebp decodes chunks of other names as well, but their size is not in the header: they are rejected.
    kind = tf.equal(file.part(12, 4), [b"VP8X", b"VP8L", b"VP8 "])
    sizes = [lambda: _pair(file, 24) + 1, lossless, lossy, lambda: tf.zeros(2, tf.int64)]
    return tf.switch_case(tf.where(tf.reduce_any(kind), tf.argmax(kind, output_type=tf.int32), 3), sizes)


def webp_pixels(data: Any) -> Any:
    """Decodes a WebP, or the first frame of an animation, to (H, W, 3) uint8, transparency blended with white."""
    import tensorflow as tf

    file = FileBytes(data)
    return on_white(tf.cond(_animated(file), lambda: _first_frame(file), lambda: _decoded(data)))


def _animated(file: FileBytes) -> Any:
    import tensorflow as tf

    extended = tf.equal(file.part(12, 4), b"VP8X")
    return extended & (tf.bitwise.bitwise_and(file.number(20, 1), _ANIMATED) > 0)


def _decoded(data: Any) -> Any:
    """Decodes to (H, W, 4). The operation fails before decoding if the file has another number of channels."""
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
    """Composes a WebP that contains only the frame at `at`, on a canvas of its size."""
    import tensorflow as tf

    content = file.part(at + 24, file.number(at + 4, 4) - 16)
    header = tf.strings.join([b"VP8X\x0a\0\0\0", _ALPHA, file.part(at + 14, 6)])
    extended = tf.strings.join([b"WEBP", header, content])
    count = tf.bitwise.right_shift(tf.strings.length(extended), [0, 8, 16, 24]) % 256
    return tf.strings.join([b"RIFF", as_bytes(count), extended])


def _pair(file: FileBytes, at: Any) -> Any:
    """Reads two numbers of three bytes and reverses their order, since width is stored before height."""
    import tensorflow as tf

    return tf.stack([file.number(at + 3, 3), file.number(at, 3)])
