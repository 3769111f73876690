"""Throughput and latency of our server, with and without batching, compared with direct calls of the same SavedModel.

    python -m bench.serving [--network vgg16_gem | --model model.keras] [--photos FOLDER] [--rounds 3] [--each 4]

A request contains the bytes of a photo, and the response is its descriptor. Each server is a separate process. All
clients are threads of this process; they share a connection, and each one sends its next photo when the previous one is
answered. Direct calls ("bare call") are made by the same numbers of threads, and also by one thread with 8 photos per
call; the highest of their rates is the reference for the relative speed. The methods take turns, in changing order, so
that other load on the machine affects them equally. The table lists photos/s as the median of the turns, and latencies
over all calls. "core ms" is the processor time per photo of the server + the clients, which other load affects less.

A second table compares the same network as a Keras model, a SavedModel and ONNX files, with one photo per call. Pillow
decodes the photos, except in the SavedModel, which decodes them itself.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from bench.extraction import chosen
from bench.photos import network_file, photos
from bench.record import recorded
from export.client.retrieval_client import RetrievalClient
from export.contract.signatures import DESCRIPTORS, IMAGE_BYTES, SERVING_DEFAULT
from export.onnx_file.export_onnx import export_onnx
from export.savedmodel.export_saved_model import export_saved_model
from pipelines.descriptors.describer import describer
from pipelines.networks.files import load_model
from pipelines.photos.reader import read_photo

CLIENTS = {1: 8, 8: 2, 32: 1}  # number of clients -> turns per round; with fewer clients a turn is shorter
AT_ONCE = 8  # photos per call where a direct call has several photos
DISTINCT = 32  # number of different photos
TIMEOUT = 600.0  # timeout of a request in seconds, long enough for 32 clients and a large network
NAME = "bench"
BARE = "bare call"

Describe = Callable[[list[bytes]], np.ndarray]
Row = tuple[str, int]  # a method and the number of clients


class Way(NamedTuple):
    """A method of describing photos.

    Attributes:
        describe: function from the bytes of photos to their descriptors.
        at_once: number of photos per call.
        process: ID of the process that computes.
    """

    describe: Describe
    at_once: int = 1
    process: int = os.getpid()


class Served(NamedTuple):
    """A running server: its gRPC address and its REST address, both as HOST:PORT, and its process ID."""

    grpc: str
    rest: str
    process: int


class Turn(NamedTuple):
    """The measurements of one turn.

    Attributes:
        photos: number of photos that were described.
        elapsed: seconds of the whole turn.
        latencies: seconds of each call.
        server: processor seconds of the process that computes.
        client: processor seconds of this process; 0 if this process computes.
    """

    photos: int
    elapsed: float
    latencies: list[float]
    server: float
    client: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="alexnet_gem", help="network as BACKBONE_POOLING, such as vgg16_gem")
    parser.add_argument("--model", type=Path, help="a .keras file in place of --network")
    parser.add_argument("--photos", type=Path, help="folder of photos")
    parser.add_argument("--size", type=int, default=512, help="longest side of the photos in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="times that each method takes its turn")
    parser.add_argument("--each", type=int, default=4, help="photos that each client sends in a turn")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        work = Path(folder)
        model = network_file(arguments.model, arguments.network, work)
        files = copied(arguments.photos, work / "photos")
        version = export_saved_model(str(model), work / NAME, size=arguments.size)
        kilobytes = np.mean([len(file) for file in files]) / 1000
        print(f"{model.name}, {arguments.size} px, {len(files)} photos of {kilobytes:.0f} kB on average")
        print(f"{os.cpu_count()} cores, {platform.machine()}, {arguments.rounds} rounds")
        compare_servers(version, files, arguments.rounds, arguments.each)
        compare_formats(model, version, arguments.size, files, arguments.rounds, work)


def copied(folder: Path | None, target: Path, count: int = DISTINCT) -> list[bytes]:
    """Copies photos to a new folder.

    Args:
        folder: folder of the photos; None for those of revisited Oxford, or synthetic photos if these do not exist.
        target: the folder to make.
        count: number of photos, which are taken at equal distances from the sorted list of photos.

    Returns:
        The bytes of the copied files, in the order of their new names.
    """
    source = folder or photos("eval/oxford_mini/jpg", count)[0]
    target.mkdir()
    for row, name in enumerate(chosen(source, count)):
        shutil.copy(source / name, target / f"{row:04}-{Path(name).name}")
    return [path.read_bytes() for path in sorted(target.iterdir())]


def compare_servers(version: Path, files: list[bytes], rounds: int, each: int) -> None:
    """Measures the servers and the direct calls, and records the table.

    Args:
        version: folder of the SavedModel.
        files: the bytes of the photos.
        rounds: number of rounds; CLIENTS has the turns per round.
        each: number of photos that each client sends in a turn.
    """
    with ExitStack() as stack:
        bare = bare_call(version)
        ways = {BARE: Way(bare), f"{BARE}, {AT_ONCE} photos": Way(bare, AT_ONCE)}
        for name, options in {"server": [], "server, batching": ["--enable-batching"]}.items():
            ways[name] = stack.enter_context(served(version.parent, options))
        require_same(ways, files)
        turns = race(ways, files, rounds, each)
    limit = max(rate(taken) for (name, _), taken in turns.items() if name.startswith(BARE))
    with recorded("serving") as add:
        for (name, clients), taken in turns.items():
            median = latency(taken, 50)
            add(
                {
                    "method": name,
                    "clients": clients,
                    "photos/s": f"{rate(taken):.1f}",
                    "photos/s relative to the best bare call": f"{rate(taken) / limit:.2f}",
                    "p50, ms": f"{median:.1f}",
                    "p50 latency relative to the bare call": f"{median / latency(turns[BARE, clients], 50):.2f}",
                    "p99, ms": f"{latency(taken, 99):.1f}",
                    "least, ms": f"{latency(taken, 0):.1f}",
                    "core ms": core(taken),
                }
            )


def bare_call(version: Path) -> Describe:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(version))
    signature = loaded.signatures[SERVING_DEFAULT]
    return lambda files: signature(**{IMAGE_BYTES: tf.constant(files)})[DESCRIPTORS].numpy()


@contextmanager
def served(base: Path, options: list[str]) -> Iterator[Way]:
    """Context manager that starts a server of the SavedModels in `base` and yields the method that calls it."""
    with (
        server_process(base, options) as server,
        RetrievalClient(server.grpc, model=base.name, batch=AT_ONCE, timeout=TIMEOUT) as client,
    ):
        yield Way(client.describe, process=server.process)


@contextmanager
def server_process(base: Path, options: list[str]) -> Iterator[Served]:
    """Context manager that runs `keras-retrieval serve` in a separate process on free ports.

    Args:
        base: folder of the SavedModel's versions.
        options: further command-line options of `serve`.

    Raises:
        RuntimeError: the server ended before it was ready.
    """
    command = [sys.executable, "-m", "keras_retrieval", "serve", str(base), "--port", "0", "--rest-port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _addresses(process)
        finally:
            process.terminate()


def _addresses(process: subprocess.Popen[str]) -> Served:
    for line in process.stdout or ():
        if found := re.match(r"serving .*: gRPC at (\S+), REST at (\S+)", line):
            return Served(found[1], found[2], process.pid)
    raise RuntimeError("the server has ended before it served; the reason is printed above")


def require_same(ways: dict[str, Way], files: list[bytes]) -> None:
    """Calls all methods once, so that they are warmed up.

    Raises:
        AssertionError: the descriptors of two methods differ by more than 1e-5.
    """
    expected = ways[BARE].describe(files)
    for way in ways.values():
        np.testing.assert_allclose(way.describe(files), expected, atol=1e-5)


def race(ways: dict[str, Way], files: list[bytes], rounds: int, each: int) -> dict[Row, list[Turn]]:
    """Measures every method with every number of clients in CLIENTS; the methods take turns.

    Args:
        ways: the methods by name.
        files: the bytes of the photos.
        rounds: number of rounds.
        each: number of photos that each client sends in a turn.

    Returns:
        From the name of the method and the number of clients to the measurements of each turn.
    """
    turns: dict[Row, list[Turn]] = {(name, clients): [] for name in ways for clients in CLIENTS}
    order = list(ways)
    for _, clients in product(range(rounds), [count for count in CLIENTS for _ in range(CLIENTS[count])]):
        order = order[1:] + order[:1]
        for name in order:
            if ways[name].at_once == 1 or clients == 1:
                turns[name, clients].append(take(ways[name], clients, files, each))
    return {row: taken for row, taken in turns.items() if taken}


def take(way: Way, clients: int, files: list[bytes], each: int) -> Turn:
    """Measures one turn of a method, in which `clients` threads each send `each` photos one after the other."""
    count = max(1, each * clients // way.at_once)
    calls = [[files[(call * way.at_once + n) % len(files)] for n in range(way.at_once)] for call in range(count)]
    server, client, started = core_seconds(way.process), time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        latencies = list(pool.map(lambda call: seconds(lambda: way.describe(call)), calls))
    elapsed = time.perf_counter() - started
    here, there = time.process_time() - client, core_seconds(way.process) - server
    return Turn(count * way.at_once, elapsed, latencies, there, 0.0 if way.process == os.getpid() else here)


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def core_seconds(process: int) -> float:
    """Returns the processor seconds of all cores that a process has used so far, as Linux reports them."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rate(turns: list[Turn]) -> float:
    """Returns the median photos/s of the turns."""
    return float(np.median([turn.photos / turn.elapsed for turn in turns]))


def latency(turns: list[Turn], percentile: float) -> float:
    """Returns a percentile (0..100) of the milliseconds per call, over all calls of the turns."""
    return 1000 * float(np.percentile([one for turn in turns for one in turn.latencies], percentile))


def core(turns: list[Turn]) -> str:
    """Returns the processor milliseconds per photo of the server and of this process, as the text "server + client"."""
    described = sum(turn.photos for turn in turns)
    server, client = (
        1000 * sum(column) / described for column in ([t.server for t in turns], [t.client for t in turns])
    )
    return f"{server:.1f} + {client:.1f}"


def compare_formats(model: Path, version: Path, size: int, files: list[bytes], rounds: int, work: Path) -> None:
    """Measures the network as Keras model, SavedModel and ONNX files, and records the table.

    Args:
        model: the .keras file.
        version: folder of the SavedModel.
        size: longest side of the photos in pixels.
        files: the bytes of the photos.
        rounds: number of times that each photo is described.
        work: folder in which the ONNX files are stored; its sub-folder "photos" is used to calibrate int8.
    """
    written = {"Keras": model, "SavedModel": version}
    written["ONNX"] = export_onnx(str(model), work / "float32.onnx", size=size)
    written["ONNX int8"] = export_onnx(str(model), work / "int8.onnx", size=size, int8=True, calibrate=work / "photos")
    ways = {name: bare_call(path) if path == version else read_here(path, size) for name, path in written.items()}
    rows = {name: np.concatenate([describe([file]) for file in files]) for name, describe in ways.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _, file in product(range(rounds), files):
        for name, describe in ways.items():
            taken[name].append(seconds(partial(describe, [file])))
    with recorded("formats") as add:
        for name, path in written.items():
            cosine = (rows[name] * rows["Keras"]).sum(axis=1).min()  # rows have unit length
            speed = {"MB": f"{megabytes(path):.1f}", "photos/s": f"{1 / np.median(taken[name]):.1f}"}
            add({"format": name, **speed, "least cosine to Keras": f"{cosine:.6f}"})


def read_here(path: Path, size: int) -> Describe:
    loaded = load_model(path)
    describe = describer(loaded)
    return lambda files: np.concatenate([describe(read_photo(file, size=size)[None]) for file in files])


def megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


if __name__ == "__main__":
    main()
