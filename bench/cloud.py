"""`extract` from and to an S3 server that fails, and what a finished run of a million photos costs.

    python -m bench.cloud [--photos 298] [--kills 10] [--outage 60] [--listed 100000] [--names 1000000]
        [--files 1000000]

The S3 server is moto on 127.0.0.1; one request in 7 fails (status 500, status 503, or a body that is cut off, in turn),
and for some time all do. Three workers of a Dask cluster read the photos from it and write the descriptors to it. At
random points one of the workers, or the command itself, is killed (SIGKILL); another worker takes its place, and the
command is run again until it ends. Each kill is of a run of its own, whose descriptors are compared with those of the
same photos in folders. The listing is of a server that only lists. The finished run has made names: an address in
memory, and a folder.
"""

import argparse
import json
import logging
import multiprocessing
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
from typing import Any, Self
from unittest.mock import patch

import numpy as np

from bench.photos import network_file, photos
from bench.record import recorded
from bench.spent import spending
from pipelines.descriptors import extraction
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import read_descriptors
from pipelines.files.remote import RemoteFolder
from pipelines.files.s3_listing import s3_session
from pipelines.files.shards import LEFT_OUT, read_left_out
from pipelines.photos.intake import take_photos

EVERY = 7
SHARD = 32
WORKERS = 3
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

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
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
    parser.add_argument("--kills", type=int, default=10, help="how many runs are killed once")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds, in the first run")
    parser.add_argument(
        "--names", type=int, default=1_000_000, help="photos at an address of a finished run; 0 for none"
    )
    parser.add_argument("--listed", type=int, default=100_000, help="photos that an S3 server lists; 0 for none")
    parser.add_argument("--files", type=int, default=1_000_000, help="files of a finished run; 0 for none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, recorded("cloud") as add:
        work = Path(temporary)
        os.environ["KERAS_RETRIEVAL_CACHE"] = str(work / "cache")
        if arguments.photos:
            add(faulty(work, arguments.photos, arguments.kills, arguments.outage))
        if arguments.listed:
            add(listed(arguments.listed))
        if arguments.names:
            seconds = finished_at_an_address(arguments.names, work)
            add({"what": f"a finished run of {arguments.names:,} photos, an address in memory", "result": seconds})
        if arguments.files:
            seconds = finished_in_a_folder(arguments.files, work)
            add(
                {
                    "what": f"a finished run of {arguments.files:,} photos, a folder, the whole command",
                    "result": seconds,
                }
            )


class Cluster:
    """A Dask scheduler and its workers, which can be killed.

    Attributes:
        address: that of the scheduler.
    """

    def __init__(self, work: Path) -> None:
        self._file, self._number = work / "scheduler.json", 0
        self._scheduler = self._process("scheduler", "--scheduler-file", str(self._file), "--port", "0")
        while not (self._file.exists() and self._file.stat().st_size):
            time.sleep(0.1)
        self.address = json.loads(self._file.read_text())["address"]
        self._workers = [self._worker() for _ in range(WORKERS)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._workers, self._scheduler):
            process.kill()
            process.wait()

    def kill_one(self, rng: random.Random) -> None:
        """Kills a worker; another one takes its place."""
        place = rng.randrange(WORKERS)
        self._workers[place].kill()
        self._workers[place].wait()
        self._workers[place] = self._worker()

    def _worker(self) -> subprocess.Popen[bytes]:
        self._number += 1
        named = ("--name", str(self._number), "--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--no-dashboard")
        return self._process("worker", self.address, *named)

    @staticmethod
    def _process(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def faulty(work: Path, count: int, kills: int, outage: float) -> dict[str, Any]:
    """Compares the descriptors that workers write to an S3 server with faults with those of folders."""
    folder = some_photos(work / "photos", count)
    model = onnx_file(work)
    server = FailingServer(outage)
    os.environ |= {
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": "made",
        "AWS_SECRET_ACCESS_KEY": "made",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import fsspec

    system = fsspec.filesystem("s3")
    system.mkdir("bucket")
    system.put(f"{folder}/", "bucket/photos/", recursive=True)

    def run(place: str, output: str, *engine: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "keras_retrieval", "extract", str(model), place, output]
        return subprocess.Popen([*command, "--size", "224", "--shard", str(SHARD), *engine])

    assert run(str(folder), str(work / "local"), "--runtime", "onnxruntime").wait() == 0
    right, expected, _ = read_descriptors(work / "local")
    rng, started, killed = random.Random(0), time.monotonic(), {"a worker": 0, "the command": 0}
    lost = wrongly = different = 0
    with Cluster(work) as cluster:
        server.failing = True
        for number in range(max(kills, 1)):
            output, victim = f"s3://bucket/descriptors-{number}", "the command" if number % 3 == 2 else "a worker"
            process = run("s3://bucket/photos", output, "--engine", cluster.address, "--workers", str(WORKERS))
            if kills:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=rng.uniform(6, 16))
                if process.poll() is None:
                    killed[victim] += 1
                    if victim == "the command":
                        process.kill()
                        process.wait()
                        process = run("s3://bucket/photos", output, "--engine", cluster.address)
                    else:
                        cluster.kill_one(rng)
            assert process.wait() == 0
            rows, names, _ = read_descriptors(Path(output))
            reasons = json.loads(RemoteFolder(output).read(LEFT_OUT))
            lost += len(set(expected) - set(names))
            wrongly += len(set(reasons) - set(read_left_out(work / "local")))
            different += names != expected or not np.array_equal(np.concatenate(rows), np.concatenate(right))
            print(f"run {number}: {killed}, {lost} lost, {wrongly} wrongly left out, {different} different", flush=True)
    server.close()
    victims = " and ".join(f"{times} of {one}" for one, times in killed.items())
    return {
        "what": f"{max(kills, 1)} runs of extract of {len(expected)} photos and {len(reasons)} broken ones from S3 to "
        f"S3, {WORKERS} workers; {server.failed} of {server.requests} requests failed, an outage of {outage:.0f} s; "
        f"kills: {victims}",
        "result": f"{lost} lost, {wrongly} wrongly left out, "
        f"{different} runs with other rows than a single process, {time.monotonic() - started:.0f} s",
    }


def onnx_file(work: Path) -> Path:
    """A network that starts without TensorFlow."""
    from export.onnx_file.export_onnx import export_onnx

    return export_onnx(network_file(None, "alexnet_gem", work), work / "model.onnx", size=224)


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


def finished_at_an_address(count: int, work: Path) -> str:
    """Says how long a finished run takes in this process, from the listing of an address in memory."""
    place, model, output = address_of_made_names(count), made_network(work), work / "of-address"
    made_descriptors(model, place, output)
    started = time.process_time()
    extract(str(model), place, output)
    return f"done in {time.process_time() - started:.1f} s of CPU"


def finished_in_a_folder(count: int, work: Path) -> str:
    """Says how long the command of a finished run takes."""
    place, model, output = folder_of_made_names(work / "made", count), made_network(work), work / "of-folder"
    made_descriptors(model, place, output)
    with spending() as spent:
        subprocess.run([sys.executable, "-m", "keras_retrieval", "extract", model, place, output], check=True)
    return f"done in {spent.processor:.1f} s of CPU, {spent.seconds:.1f} s on busy cores"


def listed(count: int) -> dict[str, Any]:
    """Says how long a listing of S3 takes, with this package's parser and botocore's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        ports = multiprocessing.get_context("spawn").Manager().Queue()
        pool.apply_async(serve_pages, (count // 1000, ports))
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports.get()}",
            "AWS_ACCESS_KEY_ID": "made",
            "AWS_SECRET_ACCESS_KEY": "made",
        }
        seconds = {}
        for parser, place in (("botocore's parser", "s3://bucket/one"), ("this package's", "s3://bucket/other")):
            session = s3_session if "this" in parser else lambda process: None
            with patch("pipelines.files.remote.s3_session", session):
                started = time.process_time()
                assert len(take_photos(Path(place)).photos) == count
                seconds[parser] = time.process_time() - started
        pool.terminate()
    return {
        "what": f"a listing of {count:,} photos by an S3 server on 127.0.0.1",
        "result": ", ".join(f"{parser} {time:.1f} s of CPU" for parser, time in seconds.items()),
    }


def serve_pages(pages: int, ports: Any) -> None:
    """Answers requests for a listing by pages of 1,000 names."""
    from urllib.parse import parse_qs

    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    names = made_names(1000 * pages)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        query = parse_qs(environ["QUERY_STRING"])
        folder, page = query.get("prefix", [""])[0], int(query.get("continuation-token", ["0"])[0])
        rows = "".join(
            f"<Contents><Key>{folder}{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{number:032x}&quot;</ETag><Size>64</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for number, name in enumerate(names[1000 * page : 1000 * (page + 1)])
        )
        more = f"<NextContinuationToken>{page + 1}</NextContinuationToken>" if page + 1 < pages else ""
        body = (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{rows}</ListBucketResult>"
        ).encode()
        start("200 OK", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    ports.put(server.server_port)
    server.serve_forever()


def made_network(work: Path) -> Path:
    """A file that stands for a network, which a finished run does not open."""
    path = work / "made.keras"
    path.write_bytes(b"a network")
    return path


def made_descriptors(model: Path, place: Path, output: Path) -> None:
    """Writes the folder that a run would leave, with one row in place of all."""

    def described(sharded: Any, intake: Any, options: Any, sharing: Any) -> tuple[dict[str, Any], dict[str, str]]:
        sharded.start()
        sharded.unfinished([intake.photos])
        with sharded.commit(0) as folder:
            options.shard_format.write(folder, 0, np.ones((1, 1), np.float32), ["row"])
            sharded.finish(0, ["row"], {})
        sharded.join()
        return {"count": 1, "left_out": 0, "ignored": 0, "truncated": 0, "dimensions": 1}, {}

    with patch.object(extraction, "_describe", described):
        extract(str(model), place, output)


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
