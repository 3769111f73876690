"""Photos per second of collections of one size and of many: batches of exact sizes against padded buckets.

    python -m bench.padded_batches
    KERAS_BACKEND=jax python -m bench.padded_batches

The photos are made in memory, and their longest side is SIZE, as `extract` reads them: the other side is between half
of it and all of it. The times contain tracing and compiling. Times of the processor (user and system) are of all
threads, and bear other work on the machine. Largest difference: of a component of a descriptor, between both ways.
With a GPU, the seconds on the clock count. The rows of each backend are kept when the other is measured.
"""

import argparse
import json
import os
import time
from typing import Any

import numpy as np

from bench.record import FOLDER, record


def made(count: int, size: int, mixed: bool) -> dict[str, np.ndarray]:
    """Photos of noise: all of one size, or nearly each of another size, one of three upright."""
    rng = np.random.default_rng(0)
    photos = {}
    for number in range(count):
        other = int(rng.integers(size // 2, size + 1)) if mixed else size * 3 // 4
        upright = mixed and number % 3 == 0
        shape = (size, other) if upright else (other, size)
        photos[f"{number:04}"] = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    return photos


def measured(network: str, photos: dict[str, np.ndarray], batch_shapes: str) -> tuple[float, float, np.ndarray]:
    """Seconds of the processor and of the clock, and the descriptors in the order of the photos."""
    import keras

    import keras_retrieval
    from pipelines.descriptors.describer import describe_photos, describer

    keras.utils.set_random_seed(0)
    model = keras_retrieval.build(network, weights=None)
    shapes = sorted((photo.shape[:2], name) for name, photo in photos.items())
    started, used = time.perf_counter(), os.times()
    describe = describer(model, batch_shapes=batch_shapes)
    rows: dict[str, np.ndarray] = {}
    for batch in describe_photos(describe, shapes, photos.__getitem__):
        rows |= zip(batch.keys, batch.rows, strict=True)
    now = os.times()
    cpu = now.user + now.system - used.user - used.system
    return cpu, time.perf_counter() - started, np.stack([rows[name] for name in photos])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="alexnet_gem", help="name or file of the network")
    parser.add_argument("--size", type=int, default=362, help="longest side of the photos, in pixels")
    parser.add_argument("--photos", type=int, default=300, help="number of photos")
    options = parser.parse_args()
    import keras

    backend = keras.backend.backend()
    path = FOLDER / "padded-batches.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()).get("rows", []) if path.exists() else []
    fresh: list[dict[str, Any]] = []
    for mixed in (False, True):
        photos = made(options.photos, options.size, mixed)
        found = {shapes: measured(options.network, photos, shapes) for shapes in ("exact", "buckets")}
        (exact_cpu, exact_clock, exact), (cpu, clock, padded) = found["exact"], found["buckets"]
        sizes = len({photo.shape for photo in photos.values()})
        row = {
            "backend": backend,
            "network": f"{options.network}, {options.size} px",
            "photos (sizes)": f"{options.photos} ({sizes})",
            "exact, CPU ms a photo": f"{1000 * exact_cpu / options.photos:.0f}",
            "buckets, CPU ms a photo": f"{1000 * cpu / options.photos:.0f}",
            "times as fast, CPU": f"{exact_cpu / cpu:.2f}",
            "times as fast, clock": f"{exact_clock / clock:.2f}",
            "largest difference": f"{np.abs(exact - padded).max():.0e}",
        }
        print(row, flush=True)
        fresh.append(row)
    ours = {(row["backend"], row["network"]) for row in fresh}
    kept = [row for row in rows if (row["backend"], row["network"]) not in ours]
    record("padded-batches", [*kept, *fresh])


if __name__ == "__main__":
    main()
