"""Time to choose the hard negatives of an epoch anew, including the descriptors, compared with the published scheme.

    python -m bench.refresh [--network alexnet_gem] [--photos 400] [--rounds 2]

Every second photo is a query, all photos are in the pool of negatives, and a cluster has 8 photos. The published scheme
reads and describes the queries and then the pool, one photo at a time, so that queries are described twice. It sorts
all scores and goes through the rankings in a Python loop. Our scheme describes each photo once, in batches of photos of
equal size, which it reads from the cache of resized photos. This cache is made before the measurement, as it exists in
every epoch except the first. Both schemes use the same compiled network and take turns. The table lists the minimum
seconds of each, the number of different photos per second, and the speed relative to the published scheme. The number
of negatives that both schemes choose is printed.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.extraction import chosen, one_by_one
from bench.mining import NEGATIVES, Task, published
from bench.photos import network, photos
from bench.record import recorded
from pipelines.descriptors.describer import DescribeFn, describer
from pipelines.photos.cache import PhotoCache, build_cache
from pipelines.photos.reading import Reading
from pipelines.training.epoch_draw import EpochDraw
from pipelines.training.mining_options import MiningOptions
from pipelines.training_tuples.data import Tuples

TO_A_CLUSTER = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="alexnet_gem", help="network as BACKBONE_POOLING, such as vgg16_gem")
    parser.add_argument(
        "--photos", type=int, default=400, help="number of photos in the pool of negatives; every second one is a query"
    )
    parser.add_argument("--size", type=int, default=362, help="longest side of the photos in pixels")
    parser.add_argument(
        "--rounds", type=int, default=2, help="times that each scheme is measured, of which the fastest counts"
    )
    arguments = parser.parse_args()
    root, where = photos("eval/oxford_mini/jpg", arguments.photos)
    names = chosen(root, arguments.photos)
    reading = Reading(root, arguments.size)
    describe = describer(network(arguments.network))
    seconds: dict[str, list[float]] = {"published": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        draw = epoch_draw(names, build_cache(Path(folder) / "cache", names, reading))
        for epoch in range(arguments.rounds + 1):  # the first round is the warm-up
            started = time.perf_counter()
            draw.mine(describe, epoch)
            middle = time.perf_counter()
            tuples = draw.mined()
            wanted = plainly(describe, reading, names, tuples[:, 0])
            seconds["ours"].append(middle - started)
            seconds["published"].append(time.perf_counter() - middle)
            same = int((tuples[:, 2:] == wanted).sum())
    print(f"{arguments.network}, {len(names)} photos of {where} at {arguments.size} px, {os.cpu_count()} cores")
    slowest = min(seconds["published"][1:])
    with recorded("refresh") as add:
        for way, found in seconds.items():
            least = min(found[1:])
            speed = {"photos/s": f"{len(names) / least:.1f}", "speed of a refresh": f"{slowest / least:.2f}"}
            add({"scheme": way, "seconds": f"{least:.2f}", **speed})
    print(f"{same:,} of {wanted.size:,} negatives are the same")


def epoch_draw(names: list[str], cache: PhotoCache) -> EpochDraw:
    """Makes the training data, in which every second photo is a query and the photo after it is the positive."""
    rows = np.arange(len(names))
    queries = rows[:-1:2]
    tuples = Tuples(names, rows // TO_A_CLUSTER, queries, queries + 1)
    return EpochDraw(tuples, cache, MiningOptions(negatives=NEGATIVES, queries=len(queries), batch=1))


def plainly(describe: DescribeFn, reading: Reading, names: list[str], queries: np.ndarray) -> np.ndarray:
    """Chooses negatives by the published scheme.

    Args:
        describe: the compiled network.
        reading: reads photos at the size for the network.
        names: names of all photos, which form the pool.
        queries: indexes in `names` of the queries, (Q,).

    Returns:
        The indexes in `names` of the negatives of each query, (Q, NEGATIVES).
    """
    describe_each = one_by_one(describe, reading)
    asked, pool = (describe_each([names[row] for row in rows]) for rows in (queries, range(len(names))))
    rows = np.arange(len(names)) // TO_A_CLUSTER
    return published(Task(asked, rows[queries], pool, rows))


if __name__ == "__main__":
    main()
