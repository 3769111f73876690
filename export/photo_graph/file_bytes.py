"""Reads the bytes of a file in a TensorFlow graph: numbers, chunks, and operations that may fail."""

from collections.abc import Callable
from typing import Any

import numpy as np

MAX_CHUNKS = 4096
"""Chunks of a file that are visited: a photo has a few dozen, and a hostile file must not take more time."""

_BYTES = np.array([bytes([value]) for value in range(256)], dtype=object)


def attempt(function: Callable[..., Any], inputs: Any, fallback: Any) -> Any:
    """Returns `function(*inputs)`, or `fallback` if an operation in it fails.

    Only tf.data's operations catch errors in a graph. A dataset of one element that is dropped if it fails, followed by
    `fallback`, works in the C++ server as well. It costs 0.1 ms if `function` is small, and milliseconds if it has
    hundreds of operations, since they are instantiated at every call.

    Args:
        function: a function of tensors, which is traced here.
        inputs: a tuple of tensors.
        fallback: a value of the types that `function` returns; its shape may differ.
    """
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors(inputs).map(function).ignore_errors()
    return data.concatenate(tf.data.Dataset.from_tensors(fallback)).take(1).get_single_element()


def as_bytes(values: Any) -> Any:
    """Joins bytes, given as numbers (n,), to a string."""
    import tensorflow as tf

    return tf.strings.reduce_join(tf.gather(_BYTES, tf.cast(values, tf.int32)))


class FileBytes:
    """The bytes of a file. Numbers beyond its end read as zeros, so that reading never fails.

    Args:
        data: scalar string.
    """

    def __init__(self, data: Any) -> None:
        import tensorflow as tf

        self.data = data
        self.length = tf.cast(tf.strings.length(data), tf.int64)

    def part(self, at: Any, count: Any) -> Any:
        """The `count` bytes from `at` on; fewer at the end of the file."""
        import tensorflow as tf

        return tf.strings.substr(self.data, tf.minimum(tf.cast(at, tf.int64), self.length), tf.cast(count, tf.int64))

    def number(self, at: Any, count: int, big_endian: Any = False) -> Any:
        """The unsigned number of `count` bytes at `at`, int64; `big_endian` may be a tensor."""
        import tensorflow as tf

        padded = tf.strings.join([self.part(at, count), b"\0" * count])
        digits = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, count), tf.uint8), tf.int64)
        return from_digits(digits, count, big_endian)

    def find_chunk(
        self, start: Any, next_chunk: Callable[[Any], Any], is_wanted: Callable[[Any], Any], limit: int = MAX_CHUNKS
    ) -> Any:
        """Goes from chunk to chunk until one is wanted.

        Args:
            start: offset of the first chunk.
            next_chunk: offset of a chunk -> offset of the next.
            is_wanted: offset of a chunk -> whether to stop there.
            limit: number of chunks to visit.

        Returns:
            The offset where it stopped, int64. The chunk there is not wanted if the file ends before or has too many.
        """
        import tensorflow as tf

        (at,) = tf.while_loop(
            lambda at: (at < self.length) & ~is_wanted(at),
            lambda at: (next_chunk(at),),
            (tf.cast(start, tf.int64),),
            maximum_iterations=limit,
            parallel_iterations=1,
        )
        return at


def from_digits(digits: Any, count: int, big_endian: Any) -> Any:
    """Unsigned numbers from their bytes (..., count) int64."""
    import tensorflow as tf

    weights = 256 ** np.arange(count, dtype="int64")
    if not isinstance(big_endian, bool):
        return tf.reduce_sum(digits * tf.where(big_endian, weights[::-1], weights), axis=-1)
    return tf.reduce_sum(digits * (weights[::-1] if big_endian else weights), axis=-1)


def on_white(pixels: Any) -> Any:
    """Blends pixels with alpha (H, W, 4) uint8 with white to (H, W, 3), rounded like Pillow."""
    import tensorflow as tf

    colours, alpha = tf.cast(pixels[:, :, :3], tf.uint16), tf.cast(pixels[:, :, 3:], tf.uint16)
    blend = colours * alpha + (255 - alpha) * 255 + 128
    return tf.cast(tf.bitwise.right_shift(blend + tf.bitwise.right_shift(blend, 8), 8), tf.uint8)
