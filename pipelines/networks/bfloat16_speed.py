"""Measures whether a processor whose instructions are unknown computes bfloat16 faster than float32.

The result is kept in the user's cache folder, since it takes about half a second. It holds for a model of processor, a
version of TensorFlow, and what decides which kernels TensorFlow takes.
"""

import time
from collections.abc import Callable
from typing import Any

from ..files.machine import machine_key
from ..files.remembered import read_remembered, remember

FILE = "bfloat16.json"
FASTER = 0.9
"""bfloat16 is chosen if it takes at most this share of float32's time, so that noise does not decide."""

_SHAPE, _CHANNELS, _RUNS = (4, 56, 56), 64, 3


def share_of_float32(cpuinfo: str) -> float:
    """Returns the time of a convolution with its gradient in bfloat16, divided by that in float32, on this machine.

    Args:
        cpuinfo: the content of /proc/cpuinfo on Linux; "" on systems without this file.
    """
    from importlib.metadata import version

    key = machine_key(cpuinfo, [f"tf {version('tensorflow')}"])
    kept = read_remembered(FILE).get(key)
    if isinstance(kept, int | float):
        return float(kept)
    share = round(_seconds("bfloat16") / _seconds("float32"), 2)
    remember(FILE, key, share)
    return share


def _seconds(dtype: str) -> float:
    step = _step(dtype)
    step()  # traces the function and selects the kernels
    found = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        step()
        found.append(time.perf_counter() - started)
    return min(found)


def _step(dtype: str) -> Callable[[], Any]:
    import tensorflow as tf

    images = tf.ones((*_SHAPE, _CHANNELS), dtype)
    kernel = tf.Variable(tf.ones((3, 3, _CHANNELS, _CHANNELS), dtype))

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME"))
        return tf.reduce_sum(tape.gradient(loss, kernel))

    return lambda: step().numpy()
