"""Choice of negatives: ours against the matrix product of queries and pool, and against the published sort and loop.

    python -m bench.mining [--rounds 5] [--pool 200000]

5 negatives are chosen for each of 2,000 queries, from a pool of 20,000 x 512 in 700 clusters and from one of --pool x
2048 (0 skips it) in --pool / 30 clusters; photos are random, and the clusters of very different sizes. The product is
computed in blocks of the same size as ours and discarded. The published method sorts all scores at once, goes down each
ranking in Python and computes the distances on the way. numpy's default sort is fast on processors with AVX2 or
AVX-512; its stable sort, which defines the order of ties, is measured too. On the larger pool the published method
chooses for the first 20 queries only, for comparison. All methods take turns. The table contains the minimum seconds of
each, relative to the product and to ours, the peak memory beyond queries and pool, and the number of negatives equal to
those of the published method.
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
    """Descriptors of length one, queries (Q, D) and pool (N, D), and their clusters (Q,) and (N,)."""

    queries: np.ndarray
    query_clusters: np.ndarray
    pool: np.ndarray
    pool_clusters: np.ndarray

    def first(self, count: int) -> "Task":
        """Returns the same task with only the first queries."""
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
    parser.add_argument("--rounds", type=int, default=5)
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
    """Returns a task with photos in random order, in clusters whose sizes are distributed like those of 3D models."""
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
    """Adds a row for each method; the first queries are compared with the published method."""
    seconds = race(task, ways, rounds)
    wanted = published(task.first(compared))
    for name, way in ways.items():
        memory, chosen = peak(partial(way, task))
        same = "-" if chosen is None else f"{(chosen[:compared] == wanted).sum():,} of {wanted.size:,}"
        times = [f"{seconds[name]:.2f}", *(f"{seconds[name] / seconds[other]:.2f}" for other in ("product", "ours"))]
        row = [f"{len(task.pool):,} x {task.pool.shape[1]}", name, *times, f"{memory:.0f}", same]
        add(dict(zip(COLUMNS, row, strict=True)))


def race(task: Task, ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Returns the minimum seconds of each method over several rounds, in which the methods take turns."""
    least = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(task)
            least[name] = min(least[name], time.perf_counter() - started)
    return least


def peak(work: Callable[[], np.ndarray | None]) -> tuple[float, np.ndarray | None]:
    """Runs `work`; returns the peak of newly allocated memory in megabytes, and the result."""
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
    """Chooses negatives as the published training code: all scores at once, all rankings, and a loop down each one."""
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
