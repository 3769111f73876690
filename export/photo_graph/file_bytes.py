"""Reads the bytes of a file in a TensorFlow graph: numbers, chunks, and the results of operations that may fail."""

from collections.abc import Callable
from typing import Any

import numpy as np

MAX_CHUNKS = 4096
"""Maximum number of chunks of a file that are visited. A photo has a few dozen; the limit stops hostile files."""

_BYTES = np.array([bytes([value]) for value in range(256)], dtype=object)


def attempt(function: Callable[..., Any], inputs: Any, fallback: Any) -> Any:
    """Computes `function(*inputs)` in a graph; returns `fallback` instead if an operation in the function fails.

    In a graph, only the operations of tf.data catch errors. The function is therefore mapped over a dataset of one
    element, which is dropped if the function fails, and `fallback` is appended. This also works in TensorFlow's C++
    server. A call costs 0.1 ms if `function` is small, and milliseconds if it has hundreds of operations, because these
    are instantiated at every call.

    Args:
        function: function of tensors, which is traced into the graph.
        inputs: tuple of tensors with which the function is called.
        fallback: value with the same dtypes as the result of `function`; its shapes may differ.
    """
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors(inputs).map(function).ignore_errors()
    return data.concatenate(tf.data.Dataset.from_tensors(fallback)).take(1).get_single_element()


def as_bytes(values: Any) -> Any:
    """Joins byte values 0..255, an integer tensor (n,), into a scalar string tensor of n bytes."""
    import tensorflow as tf

    return tf.strings.reduce_join(tf.gather(_BYTES, tf.cast(values, tf.int32)))


class FileBytes:
    """The bytes of a file in a graph. Numbers beyond the end of the file are read as zeros, so that no read fails.

    Args:
        data: content of the file, a scalar string tensor.

    Attributes:
        data: content of the file.
        length: size of the file in bytes, scalar int64.
    """

    def __init__(self, data: Any) -> None:
        import tensorflow as tf

        self.data = data
        self.length = tf.cast(tf.strings.length(data), tf.int64)

    def part(self, at: Any, count: Any) -> Any:
        """Returns the `count` bytes at offset `at` as a scalar string; fewer at the end of the file."""
        import tensorflow as tf

        return tf.strings.substr(self.data, tf.minimum(tf.cast(at, tf.int64), self.length), tf.cast(count, tf.int64))

    def number(self, at: Any, count: int, big_endian: Any = False) -> Any:
        """Reads the unsigned number of `count` bytes at offset `at` as int64; `big_endian` may be a bool tensor."""
        import tensorflow as tf

        padded = tf.strings.join([self.part(at, count), b"\0" * count])
        digits = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, count), tf.uint8), tf.int64)
        return from_digits(digits, count, big_endian)

    def find_chunk(
        self, start: Any, next_chunk: Callable[[Any], Any], is_wanted: Callable[[Any], Any], limit: int = MAX_CHUNKS
    ) -> Any:
        """Finds the first wanted chunk of a file that consists of successive chunks, such as PNG.

        Args:
            start: offset of the first chunk in bytes.
            next_chunk: function from the offset of a chunk to the offset of the next chunk.
            is_wanted: function from the offset of a chunk to a scalar bool, whether this chunk is wanted.
            limit: maximum number of chunks to visit.

        Returns:
            The offset at which the search stopped, int64. It is not the offset of a wanted chunk if the file has no
            wanted chunk, or if the limit was reached.
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
    """Decodes unsigned integers from their bytes.

    Args:
        digits: bytes of each integer as int64, (..., count).
        count: number of bytes per integer.
        big_endian: whether the most significant byte comes first, a bool or a scalar bool tensor.

    Returns:
        The integers, (...) int64.
    """
    import tensorflow as tf

    weights = 256 ** np.arange(count, dtype="int64")
    if not isinstance(big_endian, bool):
        return tf.reduce_sum(digits * tf.where(big_endian, weights[::-1], weights), axis=-1)
    return tf.reduce_sum(digits * (weights[::-1] if big_endian else weights), axis=-1)


def on_white(pixels: Any) -> Any:
    """Blends RGBA pixels (H, W, 4) uint8 with a white background to RGB (H, W, 3) uint8, rounded as in Pillow."""
    import tensorflow as tf

    colours, alpha = tf.cast(pixels[:, :, :3], tf.uint16), tf.cast(pixels[:, :, 3:], tf.uint16)
    blend = colours * alpha + (255 - alpha) * 255 + 128
    return tf.cast(tf.bitwise.right_shift(blend + tf.bitwise.right_shift(blend, 8), 8), tf.uint8)
