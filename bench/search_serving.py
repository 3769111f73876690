"""Additional time of a search request in a large index (`serve --index`), compared with a request for a descriptor.

    python -m bench.search_serving [--rows 1000000] [--network vgg16_gem | --model model.keras] [--work FOLDER]

The index contains the descriptors of the query photos, and synthetic descriptors: random unit vectors in groups that
are as similar as photos of one object. One client sends both kinds of requests to one server in turn, with the same
photos, so that other load on the machine affects both equally. The table lists the median and the 99th percentile of
the times that the client measures. The number of searches that find the query photo itself first is printed.
"""

import argparse
import os
import platform
import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.photos import network_file
from bench.record import recorded
from bench.serving import copied, seconds, server_process
from export.client.retrieval_client import RetrievalClient
from export.indexes.index import index
from export.savedmodel.export_saved_model import export_saved_model
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import KIND, VERSION, read_descriptors
from pipelines.files.durable import partial_of, seal, write_array, write_names

SHARD = 100_000  # rows
SPREAD = 0.8  # norm of the noise that is added to a direction of length 1
A_DIRECTION = 20  # rows
NAME = "bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="vgg16_gem", help="network as BACKBONE_POOLING, such as vgg16_gem")
    parser.add_argument("--model", type=Path, help="a .keras file in place of --network")
    parser.add_argument("--photos", type=Path, help="folder of photos")
    parser.add_argument("--size", type=int, default=512, help="longest side of the photos in pixels")
    parser.add_argument("--rows", type=int, default=1_000_000, help="photos in the index")
    parser.add_argument("--calls", type=int, default=60, help="number of requests of each kind")
    parser.add_argument("--work", type=Path, help="folder for the index, which is kept for the next run")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        place = work / "index"
        if not place.exists():
            prepare(work, arguments)
        measure(work, place, arguments.calls)


def prepare(work: Path, arguments: argparse.Namespace) -> None:
    """Writes the network, the query photos, the exported SavedModel and the index to `work`."""
    model = network_file(arguments.model, arguments.network, work)
    shutil.rmtree(work / "photos", ignore_errors=True)
    copied(arguments.photos, work / "photos")
    extract(str(model), work / "photos", work / "described", size=arguments.size, replace=True)
    if not (work / NAME).exists():
        export_saved_model(str(model), work / NAME, size=arguments.size)
    made_rows(work / "described", work / "descriptors", arguments.rows)
    index(work / "descriptors", str(work / "index"))
    shutil.rmtree(work / "descriptors")


def made_rows(described: Path, folder: Path, count: int) -> None:
    """Writes a folder of `count` descriptors: those of the query photos, and synthetic ones.

    Args:
        described: folder of the descriptors of the query photos.
        folder: folder to write; an existing one is replaced.
        count: number of descriptors in total.
    """
    shards, names, manifest = read_descriptors(described)
    unfinished = partial_of(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    real, chance = np.concatenate(shards), np.random.default_rng(0)
    directions = unit(chance.standard_normal((-(-count // A_DIRECTION), real.shape[1]), np.float32))
    for number, start in enumerate(range(0, count - len(real), SHARD)):
        size = min(SHARD, count - len(real) - start)
        near = directions[chance.integers(0, len(directions), size)]
        rows = unit(near + SPREAD * unit(chance.standard_normal(near.shape, np.float32)))
        write_array(unfinished / f"descriptors-{number:05}.npy", rows)
    write_array(unfinished / "descriptors-99999.npy", real)
    write_names(unfinished / "names.txt", [f"made/{row:07}.jpg" for row in range(count - len(real))] + names)
    facts = {key: value for key, value in manifest.items() if key not in ("kind", "version", "sha256", "checksum")}
    seal(unfinished, folder, kind=KIND, version=VERSION, replace=True, **facts)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def measure(work: Path, place: Path, calls: int) -> None:
    """Measures the two kinds of requests, `calls` of each, and records the table.

    Args:
        work: folder of the photos and of the exported SavedModel, see `prepare`.
        place: path of the index.
        calls: number of requests of each kind.
    """
    photos = sorted((work / "photos").iterdir())
    files = [path.read_bytes() for path in photos]
    with ExitStack() as stack:
        server = stack.enter_context(server_process(work / NAME, ["--index", str(place)]))
        client = stack.enter_context(RetrievalClient(server.grpc, model=NAME))
        firsts = [client.search([file], 1)[0].names[0] for file in files]
        right = sum(name == path.name for name, path in zip(firsts, photos, strict=True))
        client.describe(files)
        times: dict[str, list[float]] = {"description": [], "search, k = 10": []}
        for call in range(calls):
            file = [files[call % len(files)]]
            times["description"].append(seconds(partial(client.describe, file)))
            times["search, k = 10"].append(seconds(partial(client.search, file)))
    print(f"{os.cpu_count()} cores, {platform.machine()}; {right} of {len(files)} photos found themselves first")
    base = float(np.median(times["description"]))
    with recorded("search-in-a-million") as add:
        for name, taken in times.items():
            median = float(np.median(taken))
            latency = {"p50, ms": f"{1000 * median:.1f}", "p99, ms": f"{1000 * np.percentile(taken, 99):.1f}"}
            add({"request": name, **latency, "time relative to the description": f"{median / base:.3f}"})


if __name__ == "__main__":
    main()
