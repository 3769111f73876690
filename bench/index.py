"""Recall@10 versus queries/s of our index, of exact search by numpy and TensorFlow, and of faiss's IVF-PQ and HNSW.

    python -m bench.index [--sizes 20000,200000,1000000] [--work FOLDER] [--plot docs/index-curves.png]

The descriptors have 512 dimensions and are synthesised from real ones (bench.made_descriptors). The 1,000 queries are
not in the database. IVF-PQ is faiss's fast scan with 4-bit codes and refinement by the original rows, with the usual
numbers of lists and of training points. HNSW has 32 links per row.

Throughput is measured with batches of 100 queries on all cores, as the median over batches. Latencies are measured with
single queries in a process limited to one core, at the fastest settings that reach a recall of 0.95. Each index is
built, and each method is searched, in a separate process. Its peak memory in GB is given as two numbers: the memory of
the process itself, and this memory plus the pages of mapped files, which the system can reclaim.

Everything that has been built or measured is stored in --work, so that an interrupted run can be continued and another
size adds its rows to the table. --again repeats the measurements, but does not build descriptors or indexes again.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bench.index_methods import METHODS, TUNED, K
from bench.index_plot import plot
from bench.made_descriptors import made_descriptors, real_and_made
from bench.record import recorded
from keras_retrieval.ranking.nearest import nearest
from pipelines.descriptors.folder import read_descriptors
from pipelines.files.durable import write_array, write_file

BATCH = 100
ROUNDS, SECONDS = 3, 20.0  # seconds after which no further pass over all queries is started
SINGLES = 100  # minimum number of queries whose latency is measured
RECALL = 0.95
COLUMNS = [
    "rows",
    "method",
    "settings",
    "recall@10",
    "queries/s",
    "rate relative to numpy",
    "build, s",
    "build, GB",
    "search, GB",
    "p50, ms",
    "p99, ms",
]

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="20000", help="number of descriptors in each database, separated by commas")
    parser.add_argument("--methods", default=",".join(METHODS), help="methods to compare, separated by commas")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-index-bench",
        help="folder in which descriptors, indexes and measurements are stored for the next run",
    )
    parser.add_argument("--plot", type=Path, help="PNG file to write the curves of the two largest sizes to")
    parser.add_argument("--again", action="store_true", help="repeat measurements that are stored in --work")
    arguments = parser.parse_args()
    sizes = sorted({int(size) for size in arguments.sizes.split(",")})
    print(f"{os.cpu_count()} cores, {platform.machine()}, numpy {np.__version__}\n")
    print_statistics(arguments.work)
    measured: dict[int, dict[str, Row]] = {}
    with recorded("index") as add:
        for count in sizes:
            prepare(arguments.work, count)
            measured[count] = {}
            for method in arguments.methods.split(","):
                if count <= METHODS[method].most:
                    measured[count][method] = measure(arguments.work, count, method, arguments.again)
                    for row in rows_of(count, method, measured[count]):
                        add(row)
    if arguments.plot:
        plot({count: measured[count] for count in sizes[-2:]}, arguments.plot, RECALL)


def print_statistics(work: Path) -> None:
    """Prints the cosine similarities of neighbours and the intrinsic dimension of real and of synthetic descriptors."""
    print("| rows | cosine to the 1st | 10th | 100th neighbour | intrinsic dimension |\n|---|---|---|---|---|")
    for kind, numbers in real_and_made(work).items():
        print(f"| {kind} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")


def prepare(work: Path, count: int) -> None:
    """Makes `count` descriptors, the queries and the row numbers of their true neighbours, unless these files exist.

    The row numbers are (QUERIES, K), nearest first.
    """
    folder, queries = made_descriptors(work, count)
    if not _truth(work, count).exists():
        write_array(_truth(work, count), nearest(queries, read_descriptors(folder)[0], K)[0])


def measure(work: Path, count: int, method: str, again: bool) -> Row:
    """Measures a method on `count` descriptors.

    Args:
        work: folder in which indexes and measurements are stored.
        count: number of descriptors in the database.
        method: name of the method in METHODS.
        again: whether to repeat measurements that are stored already; otherwise these are returned.

    Returns:
        The measurements by name: "points" (recall and queries/s of each setting), "best" (the chosen point), "p50" and
        "p99" in milliseconds, "memory", and "built" (seconds and memory of building the index).
    """
    slug = f"{count}-{method}".translate({ord(" "): "-", ord("("): None, ord(")"): None})
    built, found = work / "built" / f"{slug}.json", work / "measured" / f"{slug}.json"
    place = built.with_suffix(".index")
    for file in (built, found):
        file.parent.mkdir(exist_ok=True)
    if not built.exists():
        for left in (place, place.with_name(f"{place.name}.partial")):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        write_file(built, json.dumps(alone(build, work, count, method, place)))
    if again or not found.exists():
        curve = alone(search, work, count, method, place)
        best = fastest(curve["points"])
        with one_core():
            latency = alone(singles, work, count, method, place, best["settings"])
        write_file(found, json.dumps(latency | curve | {"best": best}))
    row = json.loads(found.read_text())
    return row | {"built": json.loads(built.read_text())}


def alone(action: Callable[..., Row], *arguments: Any) -> Row:
    """Runs an action in a separate process.

    Returns:
        The result of the action, to which "memory" is added: the peak memory in GB without and with mapped files.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        process = pool.submit(os.getpid).result()
        running = pool.submit(action, *arguments)
        most = [0.0, 0.0]
        while not running.done():
            most = [max(pair) for pair in zip(most, memory(process), strict=True)]
            wait([running], timeout=0.05)
        return running.result() | {"memory": most}


def memory(process: int) -> list[float]:
    """Returns the current memory of a process without mapped files, and its peak memory with them, in GB (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return [sizes["RssAnon"] / 2**20, sizes["VmHWM"] / 2**20]


@contextmanager
def one_core() -> Iterator[None]:
    """Context in which new processes are limited to one core, so that all their libraries use one thread."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def build(work: Path, count: int, method: str, place: Path) -> Row:
    folder, _ = made_descriptors(work, count)
    started = time.perf_counter()
    METHODS[method].build(folder, place)
    return {"build": time.perf_counter() - started}


def search(work: Path, count: int, method: str, place: Path) -> Row:
    """Measures recall@10 and queries/s of a method at each of its settings."""
    folder, queries = made_descriptors(work, count)
    truth = np.load(_truth(work, count))
    points = []
    for settings, find in METHODS[method].searches(folder, place):
        find(queries[:BATCH])
        seconds: list[float] = []
        started, rows = time.perf_counter(), np.empty((0, K), int)
        for _ in range(ROUNDS):
            if not seconds or time.perf_counter() - started < SECONDS:
                rows, took = _once(find, queries)
                seconds += took
        recall = np.mean([len(np.intersect1d(*pair)) / K for pair in zip(rows, truth, strict=True)])
        points.append({"settings": settings, "recall": float(recall), "rate": BATCH / float(np.median(seconds))})
    return {"points": points}


def _once(find: Callable[[np.ndarray], np.ndarray], queries: np.ndarray) -> tuple[np.ndarray, list[float]]:
    found: list[np.ndarray] = []
    seconds: list[float] = []
    for start in range(0, len(queries), BATCH):
        began = time.perf_counter()
        found.append(find(queries[start : start + BATCH]))
        seconds.append(time.perf_counter() - began)
    return np.concatenate(found), seconds


def singles(work: Path, count: int, method: str, place: Path, chosen: str) -> Row:
    """Measures the latency of single queries at the settings `chosen`: the median and 99th percentile in ms."""
    folder, queries = made_descriptors(work, count)
    find = next(find for settings, find in METHODS[method].searches(folder, place) if settings == chosen)
    find(queries[:1])
    seconds: list[float] = []
    for query in queries[:, None]:
        if len(seconds) < SINGLES or sum(seconds) < SECONDS:
            began = time.perf_counter()
            find(query)
            seconds.append(time.perf_counter() - began)
    p50, p99 = 1000 * np.percentile(seconds, [50, 99])
    return {"p50": float(p50), "p99": float(p99)}


def fastest(points: list[Row]) -> Row:
    """Returns the fastest setting that reaches the recall RECALL; if none does, the setting with the highest recall."""
    enough = [point for point in points if point["recall"] >= RECALL]
    return max(enough, key=lambda point: point["rate"]) if enough else max(points, key=lambda point: point["recall"])


def rows_of(count: int, method: str, rows: dict[str, Row]) -> Iterator[Row]:
    """Yields the table rows of a method: its best setting, and the tuned setting if that is a different one.

    Args:
        count: number of descriptors in the database.
        method: name of the method in METHODS.
        rows: the measurements of all methods by name, as `measure` returns them.
    """
    row = rows[method]
    tuned = [point for point in row["points"] if point["settings"] == TUNED and point != row["best"]]
    for point in [row["best"], *tuned]:
        best = point is row["best"]
        times = f"{point['rate'] / rows['numpy']['best']['rate']:.1f}" if "numpy" in rows else ""
        cells = [f"{count:,}", method, point["settings"], f"{point['recall']:.3f}", f"{point['rate']:,.0f}", times]
        built = best and not METHODS[method].exact
        cells += [f"{row['built']['build']:.0f}" if built else "", _sizes(row["built"]) if built else ""]
        cells += [_sizes(row), f"{row['p50']:.2f}", f"{row['p99']:.2f}"] if best else [""] * 3
        yield dict(zip(COLUMNS, cells, strict=True))


def _sizes(row: Row) -> str:
    own, whole = row["memory"]
    return f"{own:.1f} / {whole:.1f}"


def _truth(work: Path, count: int) -> Path:
    return work / f"truth-{count}.npy"


if __name__ == "__main__":
    main()
