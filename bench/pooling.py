"""Time of each pooling relative to the trunk VGG16, for one photo of 1024 x 768 and graphs compiled for any size.

    python -m bench.pooling [--rounds 10]

Trunk and poolings take turns. The table lists the minimum milliseconds of each, and in percent of the trunk's time.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import keras_retrieval
from bench.record import recorded
from keras_retrieval.networks.build import POOLINGS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=10, help="times that each pooling is measured, of which the fastest counts"
    )
    rounds = parser.parse_args().rounds
    photo = np.random.default_rng(0).uniform(-2, 2, (1, 768, 1024, 3)).astype("float32")
    trunk = keras_retrieval.build("vgg16_gem", weights=None).get_layer("vgg16")
    run_trunk = compiled(trunk, 3)
    features = run_trunk(photo)
    # MixVPR takes maps of one size only.
    runs = {name: compiled(make(), features.shape[-1]) for name, make in POOLINGS.items() if name != "mixvpr"}
    least = dict.fromkeys(["trunk", *runs], float("inf"))
    for _ in range(rounds):
        least["trunk"] = min(least["trunk"], milliseconds(run_trunk, photo))
        for name, run in runs.items():
            least[name] = min(least[name], milliseconds(run, features))
    with recorded("poolings") as add:
        for name, value in least.items():
            share = f"{100 * value / least['trunk']:.1f} %"
            add({"pooling": name, "ms": f"{value:.1f}", "of the trunk's time": share})


def compiled(layer: Any, channels: int) -> Callable[[Any], Any]:
    signature = [tf.TensorSpec((None, None, None, channels), tf.float32)]
    return tf.function(lambda x: layer(x), input_signature=signature, autograph=False)


def milliseconds(run: Callable[[Any], Any], x: Any) -> float:
    started = time.perf_counter()
    run(x)
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
