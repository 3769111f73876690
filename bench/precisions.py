"""Time of bfloat16 relative to float32 on this processor, with and without oneDNN, and of a step compiled with XLA.

    python -m bench.precisions [--photos 7] [--size 224]

For each network and setting of TF_ENABLE_ONEDNN_OPTS a process computes the descriptors of a batch of photos, and a
training step (the gradients of all weights), in float32 and in bfloat16, taking turns. 0 switches oneDNN off, so that
TensorFlow takes its own kernels, as it does on processors without AVX-512. The table contains the seconds in float32
and the ratios to them. "chosen" is what `--precision auto` chooses. XLA is measured in float32; its time to compile is
apart.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.record import recorded

NETWORKS = ("alexnet_gem", "resnet50_gem")
ROUNDS, SLOW = 3, 5.0  # a round above this many seconds is not repeated


def seconds(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Shortest time of each function, which take turns after one call to warm up."""
    found = dict.fromkeys(calls, float("inf"))
    for number in range(ROUNDS + 1):
        for name, call in calls.items():
            if SLOW < found[name] < float("inf"):
                continue
            started = time.perf_counter()
            call()
            if number:
                found[name] = min(found[name], time.perf_counter() - started)
    return found


def steps(network: str, policy: str, images: np.ndarray, jit: bool) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Functions that compute the descriptors of photos, and the gradients of a sum over them."""
    import tensorflow as tf

    import keras_retrieval
    from keras_retrieval.networks.precision import set_trunk_precision

    model = keras_retrieval.build(network, weights=None)
    set_trunk_precision(model, policy)
    batch, variables = tf.constant(images), [weight.value for weight in model.trainable_variables]

    @tf.function(autograph=False, jit_compile=jit)
    def describe() -> Any:
        return model(batch, training=False)

    @tf.function(autograph=False, jit_compile=jit)
    def train() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(batch, training=False)[:, 0])
        return [tf.reduce_sum(gradient) for gradient in tape.gradient(loss, variables)]

    return lambda: describe().numpy(), lambda: [one.numpy() for one in train()]


def measure(network: str, photos: int, size: int) -> dict[str, float | str]:
    """The measurements of one network with the kernels of this process."""
    from pipelines.networks.precision import resolve_precision

    images = np.random.default_rng(0).uniform(0, 255, (photos, size, size, 3)).astype(np.float32)
    exact, half = (steps(network, policy, images, jit=False) for policy in ("float32", "mixed_bfloat16"))
    compiled = steps(network, "float32", images, jit=True)[1]
    started = time.perf_counter()
    compiled()
    compiling = time.perf_counter() - started
    forward = seconds({"float32": exact[0], "bfloat16": half[0]})
    step = seconds({"float32": exact[1], "bfloat16": half[1], "xla": compiled})
    return {
        "forward, float32, s": round(forward["float32"], 3),
        "bfloat16": f"{forward['bfloat16'] / forward['float32']:.2f} x",
        "step, float32, s": round(step["float32"], 3),
        "step, bfloat16": f"{step['bfloat16'] / step['float32']:.2f} x",
        "step, XLA": f"{step['xla'] / step['float32']:.2f} x",
        "XLA compiles, s": round(compiling, 1),
        "chosen": resolve_precision("auto"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=7, help="number of photos of a batch")
    parser.add_argument("--size", type=int, default=224, help="height and width of a photo in pixels")
    parser.add_argument("--only", help="measure this network in this process, and print the result as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.photos, options.size)))
        return
    with recorded("precisions") as add:
        for network in NETWORKS:
            for onednn in ("1", "0"):
                command = [sys.executable, "-m", "bench.precisions", "--only", network]
                finished = subprocess.run(
                    [*command, "--photos", str(options.photos), "--size", str(options.size)],
                    env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn, "TF_CPP_MIN_LOG_LEVEL": "3"},
                    check=True, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
                row = json.loads(finished.stdout.splitlines()[-1])
                add({"network": network, "oneDNN": {"1": "on", "0": "off"}[onednn]} | row)


if __name__ == "__main__":
    main()
