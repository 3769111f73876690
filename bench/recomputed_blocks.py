"""Memory and time of a training step with and without recomputed blocks (`train --checkpoint-blocks`).

    python -m bench.recomputed_blocks [--network dinov2vits14_cls] [--size 224] [--classes 4] [--photos 4]

A step is one batch of classes of random pixels with the multi-similarity loss and AdamW, all blocks trained, as `train`
makes it, in a process of its own. The memory is the peak above what the process has before its first step; the time is
that of the second step. Gradients are compared by the weights after both steps, as the largest difference relative to
the largest change of a weight.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import recorded
from bench.spent import peak_bytes

WAYS: dict[str, dict[str, Any]] = {"stored": {}, "recomputed": {"checkpoint_blocks": True}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="dinov2vits14_cls", help="network as BACKBONE_POOLING")
    parser.add_argument("--size", type=int, default=224, help="side of the photos in pixels")
    parser.add_argument("--classes", type=int, default=4, help="classes in a batch")
    parser.add_argument("--photos", type=int, default=4, help="photos of each class")
    parser.add_argument("--only", choices=list(WAYS), help="measure one way in this process; print megabytes, seconds")
    parser.add_argument("--weights", type=Path, help="file for the changes of the weights, with --only")
    arguments = parser.parse_args()
    if arguments.only:
        measure(arguments)
        return
    stored = None
    with tempfile.TemporaryDirectory() as folder, recorded("recomputed-blocks") as add:
        for name in WAYS:
            path = Path(folder) / "weights.npy"
            shape = [f"--{key}={getattr(arguments, key)}" for key in ("network", "size", "classes", "photos")]
            command = [sys.executable, "-m", "bench.recomputed_blocks", *shape, f"--only={name}", f"--weights={path}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            megabytes, seconds = (float(word) for word in done.stdout.split()[-2:])
            moved = np.load(path)
            stored = moved if stored is None else stored
            differs = np.abs(moved - stored).max() / np.abs(stored).max()
            add(
                {
                    "activations": name,
                    "memory, MB": f"{megabytes:.0f}",
                    "seconds a step": f"{seconds:.1f}",
                    "weights differ by": f"{differs:.0e}",
                }
            )


def measure(arguments: argparse.Namespace) -> None:
    """Takes two steps, and prints the peak of memory in MB and the seconds of the second."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    import keras_retrieval
    from pipelines.training.network import compiled, recompute_blocks
    from pipelines.training.train_options import TrainOptions

    keras.utils.set_random_seed(0)
    network = keras_retrieval.build(arguments.network, weights=None)
    classes, photos, side = arguments.classes, arguments.photos, arguments.size
    options = TrainOptions(
        Path("tuples.npz"), photos=Path(), loss="multi-similarity", batch_classes=f"{classes}x{photos}", lr=1e-4,
        optimizer="adamw", **WAYS[arguments.only],
    )  # fmt: skip
    if options.checkpoint_blocks:
        recompute_blocks(network)
    model = compiled(network, options, 1)
    pixels = np.random.default_rng(0).integers(0, 256, (classes, photos, side, side, 3), np.uint8)
    inputs = {"photos": pixels, "sizes": np.full((classes, photos, 2), side, np.int32)}
    labels = np.repeat(np.arange(classes)[:, None], photos, axis=1)
    before = [np.array(weight) for weight in network.trainable_weights]
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    held = peak_bytes()
    model.train_on_batch(inputs, labels)
    grown = (peak_bytes() - held) / 2**20
    started = time.monotonic()
    model.train_on_batch(inputs, labels)
    seconds = time.monotonic() - started
    after = [np.array(weight) for weight in network.trainable_weights]
    np.save(arguments.weights, np.concatenate([(b - a).ravel() for a, b in zip(before, after, strict=True)]))
    print(grown, seconds)


if __name__ == "__main__":
    main()
