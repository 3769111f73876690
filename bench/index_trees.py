"""Queries per second of processor time at a recall: trees of several sizes, hashes without a tree, and faiss.

    python -m bench.index_trees [--rows 20000] [--leaves 141] [--against 'faiss HNSW,faiss IVF-PQ'] [--work FOLDER]

The descriptors and queries are those of `bench.index`. Queries are searched in batches of 100; the time is that of the
processor over all threads, the least of several passes, so that other work on the cores matters little. Our index
returns names of photos and scores, faiss row numbers and scores. For each method the fastest settings that reach a
recall@10 of 0.95, and of 0.99, are given.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench.index import BATCH, prepare
from bench.index_methods import METHODS, K
from bench.made_descriptors import made_descriptors, row_of
from bench.record import recorded
from export.index_contract.contract import Hits

RECALLS = (0.95, 0.99)
SHARES = (0.005, 0.007, 0.01, 0.014, 0.02, 0.03, 0.04, 0.06, 0.09, 0.12)  # of the leaves of a tree that are searched
CANDIDATES = (15, 20, 30, 40, 60, 90)
Point = tuple[str, float, float]  # settings, recall, queries per second of processor time
Measure = Callable[[Callable[[np.ndarray], Any], Callable[[Any], np.ndarray]], tuple[float, float]]
"""(function from queries (B, D) to its answer, function from the answer to row numbers (B, K)) -> recall and rate."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="number of descriptors")
    parser.add_argument(
        "--leaves",
        help="sizes of trees, separated by commas, 0 for none; by default none, and 1/2, 1 and 2 of the root",
    )
    parser.add_argument("--against", default="faiss HNSW", help="other methods of bench.index, separated by commas")
    parser.add_argument("--repeat", type=int, default=5, help="passes over all queries, of which the fastest counts")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-index-bench",
        help="folder in which descriptors and indexes are stored for the next run",
    )
    arguments = parser.parse_args()
    work, count = arguments.work, arguments.rows
    prepare(work, count)
    folder, queries = made_descriptors(work, count)
    truth = np.load(work / f"truth-{count}.npy")

    def measure(find: Callable[[np.ndarray], Any], numbers: Callable[[Any], np.ndarray]) -> tuple[float, float]:
        find(queries[:BATCH])
        least, found = math.inf, []
        for _ in range(arguments.repeat):
            started = time.process_time()
            found = [find(queries[start : start + BATCH]) for start in range(0, len(queries), BATCH)]
            least = min(least, time.process_time() - started)
        rows = np.concatenate([numbers(batch) for batch in found])
        recall = np.mean([len(np.intersect1d(*pair)) / K for pair in zip(rows, truth, strict=True)])
        return float(recall), len(queries) / least

    with recorded(f"index-trees-{count}") as add:
        root = round(math.sqrt(count))
        sizes = (0, root // 2, root, 2 * root) if not arguments.leaves else map(int, arguments.leaves.split(","))
        for leaves in sizes:
            name = f"ours, {leaves} leaves" if leaves else "ours, no tree"
            for row in best(count, name, ours(work / "trees" / f"{count}-{leaves}", folder, leaves, measure)):
                add(row)
        for method in arguments.against.split(","):
            for row in best(count, method, of_faiss(work / "trees" / f"{count}-{method[6:]}", folder, method, measure)):
                add(row)


def ours(place: Path, folder: Path, leaves: int, measure: Measure) -> Iterator[Point]:
    """Builds an index with so many leaves, unless it exists, and measures its settings."""
    from export.indexes.index import index
    from export.indexes.open_index import open_index

    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        index(folder, str(place), k=K, leaves=leaves)
    opened = open_index(place)
    how = opened.facts["configuration"]

    def search(queries: np.ndarray) -> list[Hits]:
        return opened.search(queries, K)

    def numbers(batch: list[Hits]) -> np.ndarray:
        return np.array([[row_of(name) for name in hits.names] for hits in batch])

    yield f"{how['leaves_to_search']} searched, {how['reorder']} reordered, as tuned", *measure(search, numbers)
    searched = sorted({max(1, round(share * leaves)) for share in SHARES}) if leaves else [0]
    for how["leaves_to_search"], how["reorder"] in product(searched, CANDIDATES):
        settings = f"{how['leaves_to_search']} searched, {how['reorder']} reordered"
        yield settings, *measure(search, numbers)


def of_faiss(place: Path, folder: Path, method: str, measure: Measure) -> Iterator[Point]:
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        METHODS[method].build(folder, place)
    for settings, find in METHODS[method].searches(folder, place):
        yield settings, *measure(find, np.asarray)


def best(count: int, method: str, points: Iterator[Point]) -> Iterator[dict[str, Any]]:
    """The rows of the table for a method: its fastest settings at each recall that it reaches."""
    found = list(points)
    for least in RECALLS:
        enough = [point for point in found if point[1] >= least]
        if enough:
            settings, recall, rate = max(enough, key=lambda point: point[2])
            yield {
                "rows": count,
                "method": method,
                "recall of at least": least,
                "settings": settings,
                "recall@10": round(recall, 3),
                "queries/s of processor time": round(rate),
            }


if __name__ == "__main__":
    main()
