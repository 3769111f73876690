"""Reads the bytes of a file in a TensorFlow graph: numbers, chunks, and operations that may fail."""

from collections.abc import Callable
from typing import Any

import numpy as np

MAX_CHUNKS = 4096
"""Chunks of a file that are visited: a photo has a few dozen, and a hostile file must not take more time."""

_BYTES = np.array([bytes([value]) for value in range(256)], dtype=object)


def attempt(function: Callable[..., Any], inputs: Any, fallback: Any) -> Any:
    """Returns `function(*inputs)`, or `fallback` if an operation in it fails.

    In a graph, only the operations of tf.data catch errors. A dataset of one element, which is dropped if it fails,
    followed by `fallback` also works in the C++ server. A call costs 0.1 ms if `function` is small, and milliseconds if
    it has hundreds of operations, since these are instantiated at every call.

    Args:
        function: function of tensors, which is traced into the graph.
        inputs: tuple of tensors to call the function with.
        fallback: value of the same types as the result of `function`; shapes may differ.
    """
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors(inputs).map(function).ignore_errors()
    return data.concatenate(tf.data.Dataset.from_tensors(fallback)).take(1).get_single_element()


def as_bytes(values: Any) -> Any:
    """Joins bytes, given as numbers (n,), into a string."""
    import tensorflow as tf

    return tf.strings.reduce_join(tf.gather(_BYTES, tf.cast(values, tf.int32)))


class FileBytes:
    """The bytes of a file. Numbers beyond the end of the file are read as zeros, so that reading never fails.

    Args:
        data: content of the file, a scalar string.
    """

    def __init__(self, data: Any) -> None:
        import tensorflow as tf

        self.data = data
        self.length = tf.cast(tf.strings.length(data), tf.int64)

    def part(self, at: Any, count: Any) -> Any:
        """Returns the `count` bytes that start at offset `at`; fewer at the end of the file."""
        import tensorflow as tf

        return tf.strings.substr(self.data, tf.minimum(tf.cast(at, tf.int64), self.length), tf.cast(count, tf.int64))

    def number(self, at: Any, count: int, big_endian: Any = False) -> Any:
        """Reads the unsigned number of `count` bytes at offset `at` as int64; `big_endian` may be a tensor."""
        import tensorflow as tf

        padded = tf.strings.join([self.part(at, count), b"\0" * count])
        digits = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, count), tf.uint8), tf.int64)
        return from_digits(digits, count, big_endian)

    def find_chunk(
        self, start: Any, next_chunk: Callable[[Any], Any], is_wanted: Callable[[Any], Any], limit: int = MAX_CHUNKS
    ) -> Any:
        """Steps through chunks until it finds a wanted one.

        Args:
            start: offset of the first chunk.
            next_chunk: function from the offset of a chunk to the offset of the next.
            is_wanted: function from the offset of a chunk to whether it is the wanted one.
            limit: maximum number of chunks to visit.

        Returns:
            The offset at which the search stopped, int64; not that of a wanted chunk if the file ends earlier or has
            too many chunks.
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
    """Decodes unsigned integers from their bytes, an int64 tensor (..., count)."""
    import tensorflow as tf

    weights = 256 ** np.arange(count, dtype="int64")
    if not isinstance(big_endian, bool):
        return tf.reduce_sum(digits * tf.where(big_endian, weights[::-1], weights), axis=-1)
    return tf.reduce_sum(digits * (weights[::-1] if big_endian else weights), axis=-1)


def on_white(pixels: Any) -> Any:
    """Blends pixels with alpha, (H, W, 4) uint8, onto white, (H, W, 3), with Pillow's rounding."""
    import tensorflow as tf

    colours, alpha = tf.cast(pixels[:, :, :3], tf.uint16), tf.cast(pixels[:, :, 3:], tf.uint16)
    blend = colours * alpha + (255 - alpha) * 255 + 128
    return tf.cast(tf.bitwise.right_shift(blend + tf.bitwise.right_shift(blend, 8), 8), tf.uint8)
