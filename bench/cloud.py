"""`extract` over an S3 server that fails, and what a finished run of a million photos costs.

    python -m bench.cloud [--photos 298] [--kills 3] [--outage 60] [--names 1000000] [--files 100000]

The S3 server is moto on 127.0.0.1; one request in 7 fails (status 500, status 503, or a body that is cut off, in turn),
and for some time all do. `extract` is killed (SIGKILL) at random points and run again until it ends. Its rows are
compared with those of the same photos in a folder. The finished run has made names: an address in memory, and a folder.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bench.photos import network_file, photos
from bench.record import recorded
from pipelines.descriptors.folder import read_descriptors
from pipelines.files.shards import read_left_out

EVERY = 7
SHARD = 32
CONTENT = b"\xff\xd8\xff\xe0" + bytes(60)  # of a file that counts as a photo


class FailingServer:
    """Moto's S3 behind faults.

    Attributes:
        failing: whether requests fail.
        outage: seconds for which all requests fail, from the 100th on.
        requests, failed: numbers of requests.
    """

    def __init__(self, outage: float) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.failing, self.outage, self.requests, self.failed = False, outage, 0, 0
        self._until: float | None = None
        self._lock = threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if not self.failing:
            return self._moto(environ, start)
        with self._lock:
            self.requests += 1
            if self.requests == 100:
                self._until = time.monotonic() + self.outage
            out = self._until is not None and time.monotonic() < self._until
            if not out and self.requests % EVERY:
                return self._moto(environ, start)
            self.failed += 1
            kind = 1 if out else self.failed % 3
        if kind < 2:
            start("500 Internal Server Error" if kind else "503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        whole: list[Any] = []

        def note(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            whole.extend((status, headers))

        body = b"".join(self._moto(environ, note))
        start(*whole)  # with the length of the whole body
        return [body[: len(body) // 2]]

    def close(self) -> None:
        self._server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=298, help="photos over S3; 0 for none")
    parser.add_argument("--kills", type=int, default=3, help="how often extract is killed")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds")
    parser.add_argument(
        "--names", type=int, default=1_000_000, help="photos at an address of a finished run; 0 for none"
    )
    parser.add_argument("--files", type=int, default=100_000, help="files of a finished run; 0 for none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, recorded("cloud") as add:
        work = Path(temporary)
        if arguments.photos:
            add(faulty(work, arguments.photos, arguments.kills, arguments.outage))
        for count, where in ((arguments.names, "an address in memory"), (arguments.files, "a folder")):
            if count:
                place = (
                    address_of_made_names(count) if "address" in where else folder_of_made_names(work / "made", count)
                )
                result = f"done in {finished(place, count):.1f} s of CPU"
                add({"what": f"a finished run of {count:,} photos, {where}", "result": result})


def faulty(work: Path, count: int, kills: int, outage: float) -> dict[str, Any]:
    """Compares the rows of an S3 server with faults with those of a folder."""
    folder = some_photos(work / "photos", count)
    model = network_file(None, "alexnet_gem", work)
    server = FailingServer(outage)
    environment = os.environ | {
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": "made",
        "AWS_SECRET_ACCESS_KEY": "made",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    os.environ.update(environment)
    import fsspec

    system = fsspec.filesystem("s3")
    system.mkdir("bucket")
    system.put(f"{folder}/", "bucket/photos/", recursive=True)
    options = ["--size", "224", "--shard", str(SHARD), "--precision", "float32", "--runtime", "tensorflow"]

    def run(place: str, output: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "keras_retrieval", "extract", str(model), place, str(output), *options]
        return subprocess.Popen(command, env=environment)

    assert run(str(folder), work / "local").wait() == 0
    server.failing = True
    started, rng, killed = time.monotonic(), random.Random(0), 0
    while True:
        process = run("s3://bucket/photos", work / "remote")
        with suppress(subprocess.TimeoutExpired):
            status = process.wait(timeout=rng.uniform(12, 40) if killed < kills else None)
            break
        process.kill()
        process.wait()
        killed += 1
    server.close()
    assert status == 0, status
    rows, names, _ = read_descriptors(work / "remote")
    right, expected, _ = read_descriptors(work / "local")
    lost = set(expected) - set(names)
    wrongly = set(read_left_out(work / "remote")) - set(read_left_out(work / "local"))
    equal = names == expected and np.array_equal(np.concatenate(rows), np.concatenate(right))
    return {
        "what": f"extract of {len(expected)} photos and {len(read_left_out(work / 'local'))} broken ones over S3; "
        f"{server.failed} of {server.requests} requests failed, an outage of {outage:.0f} s, {killed} kills",
        "result": f"{len(lost)} lost, {len(wrongly)} wrongly left out, rows {'bit-equal' if equal else 'DIFFERENT'}, "
        f"{time.monotonic() - started:.0f} s",
    }


def some_photos(folder: Path, count: int) -> Path:
    """Small copies of real or synthetic photos, and two broken ones."""
    from PIL import Image

    source, _ = photos("photos", count)
    found = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    folder.mkdir()
    for number in range(count):
        with Image.open(found[number % len(found)]) as photo:
            photo.convert("RGB").resize((256 + 8 * (number % 4), 256)).save(folder / f"{number:04}.jpg")
    whole = (folder / "0000.jpg").read_bytes()
    (folder / "broken-1.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "broken-2.jpg").write_text("no photo")
    return folder


def finished(place: Path, count: int) -> float:
    """Seconds of CPU from the listing until a finished run is recognised."""
    from pipelines.files.durable import encoded, fingerprint
    from pipelines.photos.intake import take_photos

    take_photos(place)  # the run itself
    started = time.process_time()
    intake = take_photos(place)
    states = encoded([[name, *intake.states[name]] for name in intake.photos])
    prints = [fingerprint(precision, states) for precision in ("float32", "bfloat16", "float32")]
    assert (len(intake.photos), len(prints)) == (count, 3)
    return time.process_time() - started


def made_names(count: int) -> list[str]:
    return [f"{number // 1000:04}/photo-{number:07}.jpg" for number in range(count)]


def address_of_made_names(count: int) -> Path:
    import fsspec
    from fsspec.implementations.memory import MemoryFile

    system = fsspec.filesystem("memory")
    for name in made_names(count):
        system.store[f"/bucket/{name}"] = MemoryFile(system, f"/bucket/{name}", CONTENT)
    return Path("memory://bucket")


def folder_of_made_names(folder: Path, count: int) -> Path:
    for name in made_names(count):
        path = folder / name
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
    time.sleep(3)  # files younger than two seconds are not remembered
    return folder


if __name__ == "__main__":
    main()
