"""Functions of the transformer layers: dense, GELU, attention with masks, layer normalisation, rotary positions."""

from typing import Any

import keras
from keras import ops


def dense(x: Any, kernel: Any, bias: Any) -> Any:
    """Computes x kernel + bias, (B, T, D) to (B, T, D').

    As a product of two matrices and `add`, which TensorFlow computes in one kernel together with a `gelu` after it.
    """
    batch, count, width = ops.shape(x)
    x = ops.add(ops.matmul(ops.reshape(x, (batch * count, width)), kernel), bias)
    return ops.reshape(x, (batch, count, kernel.shape[1]))


@keras.saving.register_keras_serializable("keras_retrieval")
def gelu(x: Any) -> Any:
    """Computes GELU with erf; `keras.ops.gelu` has erfc, which TensorFlow computes four times as slowly in bfloat16."""
    return 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5))


def attend(query: Any, key: Any, value: Any, mask: Any | None = None) -> Any:
    """Computes softmax(q k^T / sqrt(d)) v; the softmax is float32 under every dtype policy.

    Args:
        query: (.., heads, Q, d).
        key: (.., heads, T, d).
        value: (.., heads, T, d).
        mask: (B, T), true for the keys that are attended to; None for all.

    Returns:
        (.., heads, Q, d).
    """
    scores = ops.matmul(query * query.shape[-1] ** -0.5, ops.swapaxes(key, -1, -2))
    scores = ops.cast(scores, "float32")
    if mask is not None:
        scores = ops.where(ops.cast(mask, "bool")[:, None, None], scores, -1e9)
    return ops.matmul(ops.cast(ops.softmax(scores, axis=-1), value.dtype), value)


def layer_normalize(x: Any, scale: Any, offset: Any, epsilon: float) -> Any:
    """Normalises vectors to mean 0 and variance 1 along the last axis, in float32, then scales and shifts them."""
    dtype = x.dtype
    x = ops.cast(x, "float32")
    mean = ops.mean(x, axis=-1, keepdims=True)
    x = x - mean
    deviation = ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + epsilon)
    return ops.cast(x * deviation, dtype) * scale + offset


def rotate(x: Any, rotary: Any) -> Any:
    """Turns pairs of channels of the last N tokens by angles (rotary position embedding, Su et al. 2021).

    Args:
        x: queries or keys, (B, heads, T, d).
        rotary: cosines, then sines, (1 or B, N, 2 d).

    Returns:
        (B, heads, T, d): channel c of the first half of d is paired with channel c of the second half.
    """
    cosine, sine = ops.split(ops.cast(ops.expand_dims(rotary, 1), "float32"), 2, axis=-1)
    before = ops.shape(x)[2] - ops.shape(rotary)[1]
    front, patches = x[:, :, :before], ops.cast(x[:, :, before:], "float32")
    one, other = ops.split(patches, 2, axis=-1)
    patches = patches * cosine + ops.concatenate([-other, one], axis=-1) * sine
    return ops.concatenate([front, ops.cast(patches, x.dtype)], axis=2)
