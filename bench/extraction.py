"""Speed of `extract` in photos/s, compared with one photo per `model.predict` and with one photo per compiled call.

    python -m bench.extraction [--photos 96]

All methods read the same files with the same reader. They take turns, a few photos at a time, so that other load on
the machine affects them equally. The table lists the photos/s of (a) `model.predict`, one photo per call; the speed
relative to (a) of (b) a compiled call per photo, of `extract` in float32 and of `extract` in bfloat16; the lowest
cosine similarity of the descriptors of `extract` to those of (a); and the share of the time of `extract` in float32
that the network takes.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.photos import network, photos
from bench.record import recorded
from pipelines.descriptors.describer import DescribeFn, describe_photos, describer
from pipelines.photos.intake import list_photos
from pipelines.photos.reading import Reading

ROWS = [  # network, longest side, folder with photos of that size
    ("alexnet_gem", 362, "eval/oxford_mini/jpg"),
    ("vgg16_gem", 362, "eval/oxford_mini/jpg"),
    ("vgg16_gem", 512, "eval/oxford_mini/jpg"),
    ("alexnet_gem", 1024, "photos"),
    ("vgg16_gem", 1024, "photos"),
]
TURN = 24  # photos that each method describes per turn

Way = Callable[[list[str]], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=96, help="number of photos per network and size")
    arguments = parser.parse_args()
    with recorded("extraction") as add:
        for name, size, folder in ROWS:
            add({"network": f"{name}, {size} px"} | measure(name, size, folder, arguments.photos))


def measure(name: str, size: int, folder: str, count: int) -> dict[str, str]:
    root, _ = photos(folder, count)
    reading = Reading(root, size)
    model, halved = network(name), network(name)
    compiled = describer(model)
    share: list[float] = []
    ways: dict[str, Way] = {
        "a": one_by_one(lambda images: model.predict(images, verbose=0), reading),
        "b": one_by_one(compiled, reading),
        "ours": together(compiled, reading, share),
        "bf16": together(describer(halved, bfloat16=True), reading, []),
    }
    seconds, rows = race(ways, chosen(root, count))
    speed = {way: seconds["a"] / seconds[way] for way in ways}
    cosine = {way: float((rows[way] * rows["a"]).sum(axis=1).min()) for way in ("ours", "bf16")}
    per_second = len(rows["a"]) / seconds["a"]
    return {
        "(a) model.predict, photos/s": f"{per_second:.2f}",
        "(b) compiled call, relative to (a)": f"{speed['b']:.2f}",
        "extract": f"{speed['ours']:.2f}",
        "extract --precision bfloat16": f"{speed['bf16']:.2f}",
        "least cosine to (a)": f"{cosine['ours']:.6f}",
        "least cosine to (a), bfloat16": f"{cosine['bf16']:.6f}",
        "network's share of the time": f"{100 * np.mean(share):.0f} %",
    }


def chosen(root: Path, count: int) -> list[str]:
    names = list_photos(root)
    return [names[row] for row in np.unique(np.linspace(0, len(names) - 1, count).astype(int))]


def race(ways: dict[str, Way], names: list[str]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Measures the methods, which take turns in changing order.

    Args:
        ways: the methods by name, each a function from names of photos to descriptors.
        names: names of the photos that each method describes.

    Returns:
        The total seconds of each method, and its descriptors in the order of `names`, (N, D).
    """
    for run in ways.values():
        run(names[:TURN])
    seconds: dict[str, float] = defaultdict(float)
    rows: dict[str, list[np.ndarray]] = defaultdict(list)
    order = list(ways)
    for start in range(0, len(names), TURN):
        order = order[1:] + order[:1]
        for way in order:
            started = time.perf_counter()
            rows[way].append(ways[way](names[start : start + TURN]))
            seconds[way] += time.perf_counter() - started
    return seconds, {way: np.concatenate(parts) for way, parts in rows.items()}


def one_by_one(describe: DescribeFn, reading: Reading) -> Way:
    return lambda names: np.concatenate([describe(reading.read(name)[None]) for name in names])


def together(describe: DescribeFn, reading: Reading, share: list[float]) -> Way:
    def way(names: list[str]) -> np.ndarray:
        started = time.perf_counter()
        network_seconds = 0.0
        rows: dict[str, np.ndarray] = {}
        for batch in describe_photos(describe, sorted((reading.shape(name), name) for name in names), reading.read):
            rows |= dict(zip(batch.keys, batch.rows, strict=True))
            network_seconds += batch.seconds
        share.append(network_seconds / (time.perf_counter() - started))
        return np.stack([rows[name] for name in names])

    return way


if __name__ == "__main__":
    main()
