"""Measures whether a processor whose instructions are unknown computes bfloat16 faster than float32.

The result is kept in the user's cache folder, since it takes about half a second. It holds for a model of processor, a
version of TensorFlow, and what decides which kernels TensorFlow takes.
"""

import json
import os
import platform
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..files.cache_folder import cache_folder
from ..files.durable import write_file

FILE = "bfloat16.json"
FASTER = 0.9
"""bfloat16 is chosen if it takes at most this share of float32's time, so that noise does not decide."""

_VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")
_SHAPE, _CHANNELS, _RUNS = (4, 56, 56), 64, 3


def share_of_float32(cpuinfo: str) -> float:
    """Returns the time of a convolution with its gradient in bfloat16, divided by that in float32, on this machine.

    Args:
        cpuinfo: the content of /proc/cpuinfo on Linux; "" on systems without this file.
    """
    key, kept = _machine(cpuinfo), _kept()
    if isinstance(kept.get(key), int | float):
        return float(kept[key])
    share = round(_seconds("bfloat16") / _seconds("float32"), 2)
    folder = cache_folder()
    if folder is not None:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_file(folder / FILE, json.dumps(kept | {key: share}, indent=1))
    return share


def _machine(cpuinfo: str) -> str:
    from importlib.metadata import version

    named = re.search(r"^(?:model name|Model|CPU part)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    processor = named[1] if named else platform.processor()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    set_ones = [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    return "; ".join([platform.machine(), processor, f"{threads} threads", f"tf {version('tensorflow')}", *set_ones])


def _kept() -> dict[str, Any]:
    folder = cache_folder()
    if folder is None:
        return {}
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


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
