"""Time and memory of choosing hard negatives, compared with a matrix product and with the published method.

    python -m bench.mining [--rounds 5] [--pool 200000]

5 negatives are chosen for each of 2,000 queries. There are two pools of random descriptors in clusters of very
different sizes: 20,000 x 512 in 700 clusters, and --pool x 2048 in --pool / 30 clusters (--pool 0 skips the second).
The methods, which take turns, are:

- "ours", `mine_negatives`;
- "product", the matrix product of queries and pool alone, in blocks of the same size as in `mine_negatives`, without
  storing the result;
- "sort and walk", the published method, which sorts the scores of all photos for all queries at once, and then goes
  through each ranking in a Python loop that also computes the distances;
- "stable sort and walk", the same with numpy's stable sort, which defines the order of equal scores. numpy's default
  sort is faster on processors with AVX2 or AVX-512.

On the larger pool, the published method chooses negatives for the first 20 queries only, for comparison of the result.
The table contains the minimum seconds of each method, its time relative to "product" and to "ours", the peak memory in
addition to queries and pool, and the number of negatives equal to those of the published method.
"""

import argparse
import os
import platform
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from bench.record import Row, recorded
from keras_retrieval.mining.hard_negatives import mine_negatives
from keras_retrieval.ranking.rows import l2_normalize

QUERIES, NEGATIVES = 2000, 5
PIECE_ROWS, PIECE_QUERIES = 2048, 1000


@dataclass(frozen=True)
class Task:
    """L2-normalised descriptors of queries (Q, D) and of a pool (N, D), and their cluster numbers, (Q,) and (N,)."""

    queries: np.ndarray
    query_clusters: np.ndarray
    pool: np.ndarray
    pool_clusters: np.ndarray

    def first(self, count: int) -> "Task":
        """Returns a task with the first `count` queries and the same pool."""
        return Task(self.queries[:count], self.query_clusters[:count], self.pool, self.pool_clusters)


Way = Callable[[Task], np.ndarray | None]
COLUMNS = (
    "pool",
    "method",
    "seconds",
    "time relative to the matrix product",
    "time relative to ours",
    "memory, MB",
    "same negatives",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=5, help="times that each method is measured, of which the fastest counts"
    )
    parser.add_argument("--pool", type=int, default=200_000, help="photos in the larger pool; 0 skips it")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, numpy {np.__version__}; {QUERIES:,} queries\n")
    ways: dict[str, Way] = {"product": product, "ours": ours}
    walks: dict[str, Way] = {"sort and walk": published, "stable sort and walk": partial(published, kind="stable")}
    with recorded("mining") as add:
        report(add, drawn(20_000, 512, 700), ways | walks, arguments.rounds)
        if arguments.pool:
            report(add, drawn(arguments.pool, 2048, arguments.pool // 30), ways, arguments.rounds, compared=20)


def drawn(photos: int, dim: int, clusters: int) -> Task:
    """Makes a task of random descriptors.

    The sizes of the clusters are distributed like the numbers of photos in 3D models. The photos are in random order.

    Args:
        photos: number of photos in the pool.
        dim: number of dimensions.
        clusters: number of clusters.
    """
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((clusters, dim), "float32")
    sizes = rng.lognormal(0, 1, clusters)
    numbers = rng.choice(clusters, QUERIES + photos, p=sizes / sizes.sum())
    rows = rng.standard_normal((QUERIES + photos, dim), "float32")
    for start in range(0, len(rows), PIECE_ROWS):
        part = slice(start, start + PIECE_ROWS)
        rows[part] = l2_normalize(rows[part] + centres[numbers[part]])
    return Task(rows[:QUERIES], numbers[:QUERIES], rows[QUERIES:], numbers[QUERIES:])


def report(add: Callable[[Row], None], task: Task, ways: dict[str, Way], rounds: int, compared: int = QUERIES) -> None:
    """Measures methods on a task and adds a row of the table for each.

    Args:
        add: function that adds a row to the table.
        task: the queries and the pool.
        ways: the methods by name.
        rounds: number of times that each method is measured.
        compared: number of queries, from the first on, whose negatives are compared with those of the published method.
    """
    seconds = race(task, ways, rounds)
    wanted = published(task.first(compared))
    for name, way in ways.items():
        memory, chosen = peak(partial(way, task))
        same = "-" if chosen is None else f"{(chosen[:compared] == wanted).sum():,} of {wanted.size:,}"
        times = [f"{seconds[name]:.2f}", *(f"{seconds[name] / seconds[other]:.2f}" for other in ("product", "ours"))]
        row = [f"{len(task.pool):,} x {task.pool.shape[1]}", name, *times, f"{memory:.0f}", same]
        add(dict(zip(COLUMNS, row, strict=True)))


def race(task: Task, ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Measures each method `rounds` times, in turns with the others; returns the minimum seconds of each by name."""
    least = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(task)
            least[name] = min(least[name], time.perf_counter() - started)
    return least


def peak(work: Callable[[], np.ndarray | None]) -> tuple[float, np.ndarray | None]:
    """Calls `work`; returns the peak memory in megabytes that was allocated during the call, and the result."""
    tracemalloc.start()
    result = work()
    memory = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return memory, result


def product(task: Task) -> None:
    buffer = np.empty((PIECE_ROWS, PIECE_QUERIES), np.float32)
    for start in range(0, len(task.pool), PIECE_ROWS):
        rows = task.pool[start : start + PIECE_ROWS]
        for first in range(0, len(task.queries), PIECE_QUERIES):
            queries = task.queries[first : first + PIECE_QUERIES]
            np.matmul(rows, queries.T, out=buffer[: len(rows), : len(queries)])


def ours(task: Task) -> np.ndarray:
    return mine_negatives(task.queries, task.query_clusters, task.pool, task.pool_clusters, NEGATIVES)[0]


def published(task: Task, kind: Literal["quicksort", "stable"] = "quicksort") -> np.ndarray:
    """Chooses negatives as the published training code does, by sorting the scores of all photos for all queries.

    Args:
        task: the queries and the pool.
        kind: the sorting algorithm of numpy.argsort.

    Returns:
        The index in the pool of each query's negatives, (Q, NEGATIVES) int64, nearest first.
    """
    rankings = np.argsort(-(task.pool @ task.queries.T), axis=0, kind=kind)
    chosen, distance = np.empty((len(task.queries), NEGATIVES), np.int64), 0.0
    for query, own in enumerate(task.query_clusters):
        taken, rank = [own], 0
        while len(taken) <= NEGATIVES:
            photo = rankings[rank, query]
            if task.pool_clusters[photo] not in taken:
                distance += np.sqrt(np.sum((task.queries[query] - task.pool[photo] + 1e-6) ** 2))
                chosen[query, len(taken) - 1] = photo
                taken.append(task.pool_clusters[photo])
            rank += 1
    return chosen


if __name__ == "__main__":
    main()
