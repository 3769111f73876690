"""Time and memory of mining tuples on the manifolds of a large photo collection, as in `tuples --manifold`.

    python -m bench.manifolds [--rows 100000] [--dim 512] [--cluster 200]

The descriptors are synthetic. The --cluster photos of an object lie on an arc of a circle, with noise, so that
consecutive photos are near each other but most photos of the object are not. Another process writes the descriptors to
files, which this process maps into memory. The table contains the seconds to build the neighbour graph, the seconds to
find anchors and tuples, and the peak memory of this process including its imports.
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench.record import recorded
from bench.spent import peak_bytes
from keras_retrieval.mining.manifolds import local_maxima, mine_manifolds, without_mean
from keras_retrieval.ranking.diffusion import mutual_graph
from keras_retrieval.ranking.rows import l2_normalize

SHARD = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="number of descriptors")
    parser.add_argument("--dim", type=int, default=512, help="dimensions of the descriptors")
    parser.add_argument("--cluster", type=int, default=200, help="photos per object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(write, Path(folder), arguments.rows, arguments.dim, arguments.cluster).result()
        shards = [np.load(path, mmap_mode="r") for path in sorted(Path(folder).iterdir())]
        measure(shards)


def write(folder: Path, rows: int, dim: int, cluster: int) -> None:
    """Writes synthetic descriptors (rows, dim) to .npy files in `folder`; photo i shows object i // cluster."""
    rng = np.random.default_rng(0)
    for first in range(0, rows, SHARD):
        count = min(SHARD, rows - first)
        objects = np.arange(first, first + count) // cluster
        turn = (np.arange(first, first + count) % cluster) / cluster * np.pi
        axes = np.stack([np.random.default_rng(number).standard_normal((2, dim)) for number in objects])
        shard = np.cos(turn)[:, None] * axes[:, 0] + np.sin(turn)[:, None] * axes[:, 1]
        shard += rng.normal(0, 0.4, shard.shape)
        np.save(folder / f"{first:09}.npy", l2_normalize(shard.astype("float32")))


def measure(shards: list[np.ndarray]) -> None:
    """Mines tuples from descriptors, given as arrays (n, D), and records the table."""
    started = time.perf_counter()
    rows = without_mean(shards)
    graph = mutual_graph(rows, 30)
    middle = time.perf_counter()
    anchors = local_maxima(graph)
    positives, negatives = mine_manifolds(rows, graph, anchors)
    ended = time.perf_counter()
    counts = [int((found >= 0).sum()) for found in (positives, negatives)]
    with recorded("manifold-mining") as add:
        add(
            {
                "descriptors": f"{rows.shape[0]:,} x {rows.shape[1]}",
                "entries of the graph": len(graph.rows),
                "graph, s": f"{middle - started:.0f}",
                "anchors": len(anchors),
                "positives": counts[0],
                "negatives": counts[1],
                "anchors and tuples, s": f"{ended - middle:.0f}",
                "peak memory, GB": f"{peak_bytes() / 2**30:.2f}",
            }
        )


if __name__ == "__main__":
    main()
