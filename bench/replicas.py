"""Three replicas of `serve --index` on one folder, read-only, of which 20 builds are swapped under 8 clients.

    python -m bench.replicas [--photos 2000] [--swaps 20] [--clients 8]
    python -m bench.replicas --start 1000000

The replicas and the writer are processes of their own. Clients search over gRPC by the signature `search`, in turn at
all replicas, and check that each photo finds itself. The writer adds a photo, deletes one, and rebuilds the index
(`update --compact`). With --start, an index of so many made descriptors of 128 dimensions is opened twice in new
processes: before its checksums are known, and after. Times of the processor are those of the process.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import recorded
from export.client.retrieval_client import RetrievalClient
from export.folder_index.layout import manifest_stamp
from export.indexes.index import index
from export.savedmodel.export_saved_model import export_saved_model
from keras_retrieval.ranking.rows import l2_normalize
from pipelines.descriptors import folder as described
from pipelines.descriptors.extract import extract
from pipelines.files.durable import partial_of, seal, write_array, write_file, write_names
from pipelines.files.progress import progress

REPLICAS, SIDE, WITHIN = 3, 64, 2.0  # pixels; seconds of --reload-within
PAUSE = 0.05  # seconds between two searches of a client, so that replicas have time to load builds on few cores
DIMENSIONS, SHARD, CLUSTERS = 128, 50_000, 20_000
OPEN = """
import json, sys, time
from pathlib import Path
wall = time.monotonic()
from export.folder_index.following import Following
from export.folder_index.folder_index import FolderIndex
index = FolderIndex(Path(sys.argv[1]), Following(steadfast=True))
print(json.dumps({"wall": time.monotonic() - wall, "processor": time.process_time(), "photos": len(index)}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=300, help="photos of the index")
    parser.add_argument("--swaps", type=int, default=20, help="builds that are swapped")
    parser.add_argument("--clients", type=int, default=8, help="clients that search all the time")
    parser.add_argument(
        "--start", type=int, default=0, help="descriptors of an index whose opening is measured instead"
    )
    parser.add_argument("--work", type=Path, help="folder for what is made; a temporary one if not given")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="replicas-"))
    try:
        if arguments.start:
            with recorded("replicas-start") as add:
                for row in starts(made_index(work, arguments.start)):
                    add(row)
        else:
            with recorded("replicas") as add:
                add(swapped(work, arguments.photos, arguments.swaps, arguments.clients))
    finally:
        if arguments.work is None:
            shutil.rmtree(work, ignore_errors=True)


def swapped(work: Path, photos: int, swaps: int, clients: int) -> dict[str, Any]:
    """Swaps builds under searches; returns the row of the table."""
    served = make_service(work, photos)
    with replicas(served, work) as ports:
        wait_until_ready(ports)
        done, counts = threading.Event(), [0] * clients
        errors: list[Any] = []
        slowest, threads = [0.0] * clients, []
        for number in range(clients):
            given = (served, ports, number, done, counts, errors, slowest)
            threads.append(threading.Thread(target=search_all_the_time, args=given))
            threads[-1].start()
        started = time.monotonic()
        for number in range(swaps):
            swap(served, number)
        took = time.monotonic() - started
        newest = f"segment-{swaps + 1:06}"
        failures = wait_until_loaded(ports, swaps + 1)
        done.set()
        for thread in threads:
            thread.join()
    assert (served / "index" / newest).is_dir()
    return {
        "replicas": REPLICAS,
        "photos": photos,
        "builds swapped": swaps,
        "seconds": round(took, 1),
        "clients": clients,
        "searches": sum(counts),
        "failed or wrong": len(errors),
        "slowest search, s": round(max(slowest), 2),
        "builds that could not be read at first": failures,
        **({"first error": str(errors[0])[:200]} if errors else {}),
    }


def make_service(work: Path, photos: int) -> Path:
    """Makes photos, a network, its version, the index and the descriptors of the photos that are added later."""
    from PIL import Image

    from tests.helpers import small

    network, folder = small.saved_network(work), work / "photos"
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    for number in range(photos):
        pixels = chance.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
        Image.fromarray(pixels).resize((SIDE, SIDE)).save(folder / f"{number:05}.png")
    extract(str(network), folder, work / "descriptors", size=SIDE)
    index(work / "descriptors", str(work / "index"), grace=60.0)
    export_saved_model(str(network), work / "serving" / "small", size=SIDE)
    return work


@contextmanager
def replicas(served: Path, work: Path) -> Iterator[list[tuple[int, int]]]:
    """Starts the replicas on a read-only mount of the index where one can be made; yields their ports."""
    processes, ports = [], []
    place = work / "mounted"
    place.mkdir()
    mount = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    bound = f"mount --bind -o ro {served / 'index'} {place} && mount -o remount,bind,ro {place} && exec"
    readable = not subprocess.run([*mount, f"{bound} true"], capture_output=True, check=False).returncode
    print(
        "the replicas have a read-only mount of the index" if readable else "no mount can be made: an ordinary folder"
    )
    try:
        for number in range(REPLICAS):
            command = [
                sys.executable, "-m", "keras_retrieval", "serve", str(served / "serving"), "--index",
                str(place if readable else served / "index"), "--port", "0", "--rest-port", "0", "--reload-within",
                str(WITHIN), "--replica", f"{number + 1}/{REPLICAS}",
            ]  # fmt: skip
            given = [*mount, f'{bound} "$@"', "sh", *command] if readable else command
            environment = {**os.environ, "KERAS_RETRIEVAL_CACHE": str(work / f"cache-{number}")}
            with (work / f"replica-{number}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(given, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
                )
        for process in processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"gRPC at \S+:(\d+), REST at \S+:(\d+)", line)
            assert found, f"a replica did not start: {line}"
            ports.append((int(found[1]), int(found[2])))
        yield ports
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def wait_until_ready(ports: list[tuple[int, int]]) -> None:
    for _, port in ports:
        assert asked(port, "/readyz") == "ok\n"


def asked(port: int, path: str) -> str:
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return str(answer.read().decode())


def metric(port: int, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", asked(port, "/monitoring/prometheus/metrics"), re.MULTILINE)
    assert found, name
    return float(found[1])


def search_all_the_time(
    served: Path,
    ports: list[tuple[int, int]],
    number: int,
    done: threading.Event,
    counts: list[int],
    errors: list[Any],
    slowest: list[float],
) -> None:
    """Searches with photos that are never deleted, which find themselves."""
    chance = np.random.default_rng(number)
    photos = sorted((served / "photos").iterdir())
    kept = photos[len(photos) // 2 :]
    clients = [RetrievalClient(f"127.0.0.1:{port}", model="small", retries=0) for port, _ in ports]
    while not done.wait(PAUSE):
        photo = kept[chance.integers(len(kept))]
        started = time.monotonic()
        try:
            (hits,) = clients[counts[number] % len(clients)].search([photo], k=5)
            if hits.names[0] != photo.name or len(hits.names) != 5:
                errors.append(f"{photo.name} found {hits.names}")
        except Exception as error:
            errors.append(error)
        counts[number] += 1
        slowest[number] = max(slowest[number], time.monotonic() - started)
    for client in clients:
        client.close()


def swap(served: Path, number: int) -> None:
    """Deletes a photo and rebuilds the index in a process of its own; returns when the new build is published."""
    before = manifest_stamp(served / "index")
    command = [sys.executable, "-m", "keras_retrieval", "update", str(served / "index")]
    subprocess.run([*command, "--delete", f"{number:05}.png", "--compact"], check=True, capture_output=True)
    assert manifest_stamp(served / "index") != before


def wait_until_loaded(ports: list[tuple[int, int]], build: int) -> int:
    """Waits until each replica has the last build; returns how many attempts to read one failed in all."""
    end = time.monotonic() + 120
    while {metric(port, "keras_retrieval_index_build") for _, port in ports} != {build}:
        assert time.monotonic() < end, "a replica has not loaded the last build"
        time.sleep(0.5)
    assert all(metric(port, "keras_retrieval_index_outdated") == 0 for _, port in ports)
    return int(sum(metric(port, "keras_retrieval_index_failures_total") for _, port in ports))


def made_index(work: Path, count: int) -> Path:
    """An index of made descriptors, or that which is in `work` already."""
    if not (work / "index").exists():
        chance = np.random.default_rng(0)
        centres = chance.standard_normal((CLUSTERS, DIMENSIONS), np.float32)
        folder = work / "descriptors"
        partial = partial_of(folder)
        partial.mkdir(parents=True)
        with progress("made", count, "rows") as advance:
            for start in range(0, count, SHARD):
                size = min(SHARD, count - start)
                noise = chance.standard_normal((size, DIMENSIONS), np.float32)
                rows = l2_normalize(centres[chance.integers(CLUSTERS, size=size)] + noise / 2)
                write_array(partial / f"descriptors-{start // SHARD:05}.npy", rows)
                advance(size)
        write_names(partial / "names.txt", [f"folder {row // 1000:04}/photo {row:07}.jpg" for row in range(count)])
        write_file(partial / "left_out.json", "{}")
        facts: dict[str, Any] = {
            "model": {"name": "made"},
            "photos": "",
            "size": SIDE,
            "scales": [1.0],
            "antialias": True,
        }
        facts |= {"bfloat16": False, "exif": True, "max_pixels": 2**30, "fingerprint": "made", "count": count}
        seal(partial, folder, kind=described.KIND, version=described.VERSION, **facts)
        index(folder, str(work / "index"))
    return work / "index"


def starts(place: Path) -> Iterator[dict[str, Any]]:
    """Opens an index in new processes, first without and then with its checksums."""
    (place / ".checksums.json").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        for which in ("first", "second", "third"):
            environment = {**os.environ, "KERAS_RETRIEVAL_CACHE": cache}
            command = [sys.executable, "-c", OPEN, str(place)]
            found = subprocess.run(command, capture_output=True, check=True, env=environment)
            row = json.loads(found.stdout)
            size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
            yield {
                "photos": row["photos"],
                "dimensions": DIMENSIONS,
                "GB": round(size / 1e9, 2),
                "opened": which,
                "wall, s": round(row["wall"], 2),
                "processor, s": round(row["processor"], 2),
            }


if __name__ == "__main__":
    main()
