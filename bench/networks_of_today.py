"""Cost of the networks of today and of VGG16-GeM: processor time a photo, size, bytes of a descriptor.

    python -m bench.networks_of_today [--rounds 3] [--only NETWORK ..]

Each network has random weights, which cost as much as others, and describes one photo at a time at the size of its
published evaluation, compiled for photos of any size. The processor time is the sum over all cores, the least of the
rounds, so that a busy machine changes it little; on two idle cores a photo takes about half of it. "build" is the
processor time of `keras_retrieval.build` without reading a file.
"""

import argparse
import gc
import json
import time
from typing import Any

import numpy as np
import tensorflow as tf

import keras_retrieval
from bench.record import FOLDER, record

NETWORKS = {
    "vgg16_gem": (240, 320),
    "torchresnet101_gem": (240, 320),
    "dinov2vits14_cls": (322, 322),
    "dinov2vitb14_cls": (322, 322),
    "dinov2vitl14_cls": (322, 322),
    "dinov3vits16_cls": (320, 320),
    "dinov3vitb16_cls": (320, 320),
    "dinov3convnexttiny": (320, 320),
    "megaloc": (322, 322),
    "salad": (322, 322),
    "boq": (322, 322),
    "boq-resnet50": (384, 384),
    "mixvpr": (320, 320),
    "cosplace": (320, 320),
    "superglobal": (768, 1024),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=3, help="photos that each network describes after the first, the fastest counts"
    )
    parser.add_argument(
        "--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="networks to measure; the other rows stay"
    )
    arguments = parser.parse_args()
    path = FOLDER / "networks-of-today.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows = {row["network"]: row for row in kept}
    for name in arguments.only:
        rows[name] = measured(name, *NETWORKS[name], arguments.rounds)
        print(rows[name], flush=True)
        order = [rows[one] for one in NETWORKS if one in rows]
        record("networks-of-today", order, "python -m bench.networks_of_today")
        gc.collect()


def measured(name: str, height: int, width: int, rounds: int) -> dict[str, Any]:
    """The row of a network."""
    started = time.process_time()
    model = keras_retrieval.build(name, weights=None)
    build = time.process_time() - started
    signature = [tf.TensorSpec((None, None, None, 3), tf.float32)]
    describe = tf.function(model, input_signature=signature, autograph=False)
    photo = np.random.default_rng(0).uniform(0, 255, (1, height, width, 3)).astype("float32")
    describe(photo)
    least = min(processor_seconds(describe, photo) for _ in range(rounds))
    return {
        "network": name,
        "photo, px": f"{width} x {height}",
        "processor ms a photo": round(1000 * least),
        "million weights": round(model.count_params() / 1e6, 1),
        "descriptor": model.output_shape[-1],
        "bytes in float32": 4 * model.output_shape[-1],
        "build, processor s": round(build, 1),
    }


def processor_seconds(describe: tf.types.experimental.GenericFunction, photo: np.ndarray) -> float:
    started = time.process_time()
    describe(photo)
    return time.process_time() - started


if __name__ == "__main__":
    main()
