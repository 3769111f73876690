"""Random initial values of large weights: drawn fast, and not at all where the weights of a file replace them.

TensorFlow takes more than 2 s of processor time to draw the 300 million numbers of a ViT-L, three times the rest of its
construction. 16 random bits for each, taken as an integer, cost half of that, most of it for touching the memory.
"""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
from keras import ops

_PIECE = 2**22  # numbers drawn at a time: the memory of larger ones is returned and zeroed again for each
_REPLACED: ContextVar[bool] = ContextVar("initial_values_replaced", default=False)


@contextmanager
def replaced_by_a_file() -> Iterator[None]:
    """Context manager in which layers are built whose weights are all set afterwards, from a file."""
    token = _REPLACED.set(True)
    try:
        yield
    finally:
        _REPLACED.reset(token)


def drawn(limit: float | None = None) -> Any:
    """Returns the initializer of a large weight: `UniformOf16Bits`, or "zeros" within `replaced_by_a_file`.

    Args:
        limit: see `UniformOf16Bits`.
    """
    return "zeros" if _REPLACED.get() else UniformOf16Bits(limit)


class UniformOf16Bits(keras.initializers.Initializer):
    """Draws from 65,536 values, evenly spaced from -limit to a step below limit.

    The seed is drawn from Python's `random`, so that `keras.utils.set_random_seed` makes the values repeatable.

    Args:
        limit: largest absolute value; None for sqrt(6 / (inputs + outputs)) of a kernel (.., inputs, outputs), where
            the axes before them are the sides of a convolution (Glorot, Bengio: Understanding the Difficulty of
            Training Deep Feedforward Neural Networks. AISTATS 2010).
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit

    def __call__(self, shape: tuple[int, ...], dtype: Any = None, **kwargs: Any) -> Any:
        limit = self.limit
        if limit is None:
            limit = (6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1]))) ** 0.5
        bits = np.random.Generator(np.random.SFC64(random.getrandbits(64)))
        width = math.prod(shape[1:])
        rows = max(1, _PIECE // width)
        pieces = []
        for first in range(0, shape[0], rows):
            count = min(rows, shape[0] - first)
            words = bits.integers(0, 2**64, -(-count * width // 4), dtype="uint64")
            piece = ops.convert_to_tensor(words.view("int16")[: count * width].reshape(count, *shape[1:]))
            pieces.append(ops.cast(ops.cast(piece, "float32") * (limit / 2**15), dtype or keras.config.floatx()))
        return pieces[0] if len(pieces) == 1 else ops.concatenate(pieces)
