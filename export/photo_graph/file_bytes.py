"""Bytes of a file read by operations of a TensorFlow graph: numbers, chunks, and attempts that may fail."""

from collections.abc import Callable
from typing import Any

import numpy as np

CHUNKS = 4096
"""How many chunks of a file are looked at: a photo has a few dozen, and time is not for a hostile file to take."""

_BYTES = np.array([bytes([value]) for value in range(256)], dtype=object)


def attempt(function: Callable[..., Any], inputs: Any, otherwise: Any) -> Any:
    """`function(*inputs)`, or `otherwise` where an operation in it fails.

    No operation of TensorFlow catches errors but those of tf.data. A dataset of one element that is dropped if it
    fails, with `otherwise` behind it, runs in the C++ server as everywhere. It costs 0.1 ms if `function` is small,
    and milliseconds if it has hundreds of operations, since they are instantiated at every call.

    Args:
        function: of tensors, traced here.
        inputs: a tuple of tensors.
        otherwise: what `function` returns, dimensions apart.
    """
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors(inputs).map(function).ignore_errors()
    return data.concatenate(tf.data.Dataset.from_tensors(otherwise)).take(1).get_single_element()


def as_bytes(values: Any) -> Any:
    """The string of some bytes, given as numbers (n,)."""
    import tensorflow as tf

    return tf.strings.reduce_join(tf.gather(_BYTES, tf.cast(values, tf.int32)))


class FileBytes:
    """The bytes of a file, with zeros behind its end: reading there is never an error of the graph.

    Args:
        data: scalar string.
    """

    def __init__(self, data: Any) -> None:
        import tensorflow as tf

        self.data = data
        self.length = tf.cast(tf.strings.length(data), tf.int64)

    def part(self, at: Any, count: Any) -> Any:
        """`count` bytes from `at` on; fewer where the file ends."""
        import tensorflow as tf

        return tf.strings.substr(self.data, tf.minimum(tf.cast(at, tf.int64), self.length), tf.cast(count, tf.int64))

    def number(self, at: Any, count: int, big_endian: Any = False) -> Any:
        """An unsigned number of `count` bytes that stands at `at`, int64; `big_endian` may be a tensor."""
        import tensorflow as tf

        padded = tf.strings.join([self.part(at, count), b"\0" * count])
        digits = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, count), tf.uint8), tf.int64)
        return from_digits(digits, count, big_endian)

    def walk(self, start: Any, following: Callable[[Any], Any], found: Callable[[Any], Any], most: int = CHUNKS) -> Any:
        """Goes from chunk to chunk.

        Args:
            start: where the first chunk begins.
            following: where a chunk begins -> where the next one does.
            found: whether to stop before a chunk that begins there.
            most: steps.

        Returns:
            Where the walk stopped, int64. Nothing may be found there: the file can end before, or have too many chunks.
        """
        import tensorflow as tf

        (at,) = tf.while_loop(
            lambda at: (at < self.length) & ~found(at),
            lambda at: (following(at),),
            (tf.cast(start, tf.int64),),
            maximum_iterations=most,
            parallel_iterations=1,
        )
        return at


def from_digits(digits: Any, count: int, big_endian: Any) -> Any:
    """Unsigned numbers of digits (..., count), which are bytes as int64."""
    import tensorflow as tf

    weights = 256 ** np.arange(count, dtype="int64")
    if not isinstance(big_endian, bool):
        return tf.reduce_sum(digits * tf.where(big_endian, weights[::-1], weights), axis=-1)
    return tf.reduce_sum(digits * (weights[::-1] if big_endian else weights), axis=-1)


def on_white(pixels: Any) -> Any:
    """A picture with alpha (H, W, 4) uint8 on white paper, (H, W, 3), rounded as Pillow rounds it."""
    import tensorflow as tf

    colours, alpha = tf.cast(pixels[:, :, :3], tf.uint16), tf.cast(pixels[:, :, 3:], tf.uint16)
    blend = colours * alpha + (255 - alpha) * 255 + 128
    return tf.cast(tf.bitwise.right_shift(blend + tf.bitwise.right_shift(blend, 8), 8), tf.uint8)
