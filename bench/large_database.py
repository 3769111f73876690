"""Databases of random descriptors, on disk or in memory, and the cost of searching them, for bench.evaluation."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench.spent import peak_bytes
from keras_retrieval.ranking.methods import Ranker, parse
from keras_retrieval.ranking.rows import l2_normalize

SHARD = 50_000
QUERIES = 70

Found = tuple[float, float]  # seconds, peak memory in GB


def write_shards(folder: Path, rows: int, dim: int) -> None:
    """Writes random descriptors (rows, dim) of unit length as float32 .npy files with up to 50,000 rows each."""
    rng = np.random.default_rng(0)
    for number, start in enumerate(range(0, rows, SHARD)):
        shard = rng.standard_normal((min(SHARD, rows - start), dim), "float32")
        np.save(folder / f"descriptors-{number:05}.npy", l2_normalize(shard))


def measure_search(folder: Path, k: int) -> Found:
    """Measures how long `Ranker` takes to find the best k rows for 70 queries, in a separate process."""
    return _alone(_ours, folder, k)


def measure_full_sort(folder: Path) -> Found:
    """Measures the method of the published evaluation, numpy's argsort of all similarities, in a separate process."""
    return _alone(_numpy, folder, 0)


def clustered(rows: int, dim: int, *, per_cluster: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Makes random unit vectors in clusters, as descriptors of photos of the same objects are.

    Args:
        rows: number of database vectors.
        dim: number of dimensions D.
        per_cluster: number of database vectors per cluster.

    Returns:
        The database (rows, D) and 70 queries from its clusters, (70, D), both float32.
    """
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, rows // per_cluster), dim), "float32")

    def views(cluster: np.ndarray) -> np.ndarray:
        return l2_normalize(centres[cluster] + rng.standard_normal((len(cluster), dim), "float32"))

    return views(np.arange(rows) % len(centres)), views(rng.integers(0, len(centres), QUERIES))


def measure_method(text: str, queries: np.ndarray, database: np.ndarray, k: int = 100) -> tuple[float, float]:
    """Measures query-time methods.

    Args:
        text: the methods, in the syntax of --rerank, such as "aqe:10"; "" for search alone.
        queries: the queries, (Q, D), which are ranked as one batch.
        database: the database, (N, D).
        k: number of database rows to return for each query.

    Returns:
        The seconds to prepare the database, and the milliseconds per query.
    """
    started = time.perf_counter()
    ranker = Ranker(database, parse(text))
    prepared = time.perf_counter()
    ranker.rank(queries, k)
    return prepared - started, 1000 * (time.perf_counter() - prepared) / len(queries)


def _alone(way: Callable[[list[np.ndarray], np.ndarray, int], np.ndarray], folder: Path, k: int) -> Found:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, way, folder, k).result()


def _measured(way: Callable[[list[np.ndarray], np.ndarray, int], np.ndarray], folder: Path, k: int) -> Found:
    shards = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))]
    queries = l2_normalize(np.random.default_rng(1).standard_normal((QUERIES, shards[0].shape[1]), "float32"))
    started = time.perf_counter()
    way(shards, queries, k)
    return time.perf_counter() - started, peak_bytes() / 2**30


def _ours(shards: list[np.ndarray], queries: np.ndarray, k: int) -> np.ndarray:
    return Ranker(shards).rank(queries, k)[0]


def _numpy(shards: list[np.ndarray], queries: np.ndarray, k: int) -> np.ndarray:
    scores = np.concatenate([shard @ queries.T for shard in shards])
    return np.argsort(-scores, axis=0)
