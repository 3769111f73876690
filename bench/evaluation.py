"""Accuracy and cost of whitening and of query-time methods (--rerank), on real photos and on large databases.

    python -m bench.evaluation [--rows 1000000] [--nodes 100000]

There are three tables. The first contains mAP on those photos of revisited Oxford that are available (VGG16-GeM, 3
scales, 512 px, whitening learned on other photos with one folder per object). The second contains the time of searching
for 70 queries in --rows x 2048 descriptors on disk, compared with numpy's full sort; --rows 0 skips it. The third
contains the time of query expansion and diffusion on --nodes x 512 descriptors; --nodes 0 skips it. Descriptors of
photos are stored in --work, so that a second run does not compute them again.
"""

import argparse
import os
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.large_database import clustered, measure_full_sort, measure_method, measure_search, write_shards
from bench.photos import DATA, network
from bench.record import Row, recorded
from keras_retrieval.ranking.methods import Ranker, parse
from keras_retrieval.whitening.covariance import Projection
from pipelines.descriptors.extraction import extract_descriptors
from pipelines.descriptors.learn_whitening import learn_whitening
from pipelines.descriptors.matching_pairs import read_pairs
from pipelines.descriptors.options import ExtractOptions
from pipelines.evaluation.collection import Collection, describe_collection
from pipelines.evaluation.datasets import load_ground_truth
from pipelines.evaluation.scores import score

SCALES = "1,0.7071,0.5"
ROWS = [  # whitening method, number of dimensions that are kept, query-time methods
    ("", None, ""),
    ("lw", None, ""),
    ("lw", 128, ""),
    ("pca", None, ""),
    ("pca", 128, ""),
    ("", None, "aqe:10"),
    ("", None, "alphaqe:10"),
    ("", None, "alphaqe:50"),
    ("", None, "dba:10"),
    ("", None, "diffusion:0:50"),
    ("", None, "diffusion:0:20:5"),
    ("", None, "superglobal:400:9"),
    ("", None, "alphaqe:10,superglobal:400:9"),
    ("", None, "superglobal:400:9,alphaqe:10"),
    ("pca", None, "superglobal:400:9"),
]
METHODS = ("", "aqe:10", "alphaqe:50", "superglobal:400:9", "diffusion:2000:50", "diffusion:0:50")
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-bench",
        help="folder in which the descriptors of photos and the networks are stored for the next run",
    )
    parser.add_argument("--model", type=Path, help="a .keras file in place of VGG16-GeM")
    parser.add_argument("--size", type=int, default=512, help="longest side of the photos in pixels")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the database on disk; 0 skips it")
    parser.add_argument(
        "--nodes", type=int, default=100_000, help="rows of the database for query expansion and diffusion; 0 skips it"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(f"{os.cpu_count()} cores, {platform.machine()}, numpy {np.__version__}")
    on_real_photos(arguments.work, arguments.model, arguments.size)
    if arguments.rows:
        on_disk(arguments.work, arguments.rows, 2048)
    if arguments.nodes:
        expansion_and_diffusion(arguments.nodes, 512)


def on_real_photos(work: Path, model: Path | None, size: int) -> None:
    photos = DATA / "eval" / "oxford_mini"
    if not photos.is_dir():
        print("\nmAP on real photos is skipped: the collection does not exist")
        return
    truth = load_ground_truth("roxford5k", photos, DATA / "gnd" / "gnd_roxford5k.pkl")
    saved = str(model or _saved_network(work))
    options = ExtractOptions(saved, photos, work / "oxford", size=size, scales=SCALES)
    collection = describe_collection(truth, options)
    described = extract_descriptors(replace(options, photos=DATA / "photos", output=work / "photos"))
    learned = {method: learn_whitening(described, read_pairs(DATA / "photos"), method) for method in ("lw", "pca")}
    print(f"\nroxford5k, {truth.partial}; {size} px, scales {SCALES}\n")
    with recorded("whitening-and-reranking") as add:
        for whitening, dim, text in ROWS:
            add(_row(collection, learned.get(whitening), whitening, dim, text))


def _saved_network(work: Path) -> Path:
    path = work / "vgg16_gem.keras"
    if not path.exists():
        network("vgg16_gem").save(path)
    return path


def _row(collection: Collection, projection: Projection | None, whitening: str, dim: int | None, text: str) -> Row:
    queries, rows = collection.queries, collection.rows
    if projection:
        queries, rows = projection.apply(queries, dim), projection.apply(rows, dim)
    started = time.perf_counter()
    ranker = Ranker(rows, parse(text))
    prepared = time.perf_counter() - started
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        indexes, _ = ranker.rank(queries, len(rows))
        seconds.append(time.perf_counter() - started)
    mean = score(collection.truth, collection.ranks(indexes))["mean"]
    figures = {setting: f"{100 * mean[setting]['mAP']:.1f}" for setting in ("easy", "medium", "hard")}
    how = {"whitening": whitening or "none", "dimensions": queries.shape[1], "--rerank": f"`{text}`" if text else "-"}
    per_query = 1000 * min(seconds) / len(queries)
    return how | figures | {"ms a query": f"{per_query:.2f}", "s to prepare": f"{prepared:.2f}"}


def on_disk(work: Path, rows: int, dim: int) -> None:
    with tempfile.TemporaryDirectory(dir=work) as folder:
        write_shards(Path(folder), rows, dim)
        measure_search(Path(folder), 1)  # the first read fills the system's disk cache for all methods
        sort_seconds, sort_memory = measure_full_sort(Path(folder))
        print(f"\n70 queries, {rows:,} x {dim} descriptors in memory-mapped shards\n")
        with recorded("large-database") as add:
            add(_timed("numpy's full sort", sort_seconds, sort_memory, 1.0))
            for label, k in (("the first 100", 100), ("the first 10,000", 10_000), ("whole rankings", rows)):
                seconds, memory = measure_search(Path(folder), k)
                add(_timed(f"ours, {label}", seconds, memory, seconds / sort_seconds))


def _timed(method: str, seconds: float, memory: float, share: float) -> Row:
    times = {"seconds": f"{seconds:.1f}", "time relative to numpy's full sort": f"{share:.2f}"}
    return {"method": method, **times, "peak memory, GB": f"{memory:.2f}"}


def expansion_and_diffusion(nodes: int, dim: int) -> None:
    database, queries = clustered(nodes, dim)
    print(f"\n70 queries, {nodes:,} x {dim} descriptors in memory, the first 100 rows of each\n")
    with recorded("rerank-cost") as add:
        for text in METHODS:
            prepared, per_query = measure_method(text, queries, database)
            add({"method": text or "search", "ms a query": f"{per_query:.1f}", "s to prepare": f"{prepared:.1f}"})


if __name__ == "__main__":
    main()
