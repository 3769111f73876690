"""Extraction on workers: what kills cost, how much slower it is than one process, and how it grows.

    python -m bench.engine [--engine dask] [--photos 2000] [--kills 10]

Photos are synthetic, 256 x 256, and the network is AlexNet with GeM and random weights. The table has, for the engine:

- kills: runs over 300 photos, 2 of them broken, with three workers of which one is killed by SIGKILL at a random
  moment; how many ended with every photo once and the same bytes as one process.
- driver: a run whose driver is killed by SIGKILL, and its rerun: units that were done and were done again.
- speed: the time of one worker on this machine relative to one process, from the first finished unit to the last.
- growth: CPU time of all processes, and memory of the driver, for ten times as many photos.
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from bench.record import recorded

PICTURES = 100  # different photos; the others are links to them
SHARD = 20  # photos of a unit
OPTIONS = {"size": 256, "precision": "float32", "runtime": "tensorflow"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="dask", choices=("dask", "ray"), help="engine to measure")
    parser.add_argument("--photos", type=int, default=2000, help="number of photos for speed and growth; 0 for neither")
    parser.add_argument("--kills", type=int, default=10, help="number of runs with a killed worker")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        _driver(json.loads(arguments.run))
        return
    with TemporaryDirectory() as folder, recorded(f"engine-{arguments.engine}") as add:
        work = Path(folder)
        network = _network(work)
        _draw(work / "few", 298)
        (work / "few" / "broken.jpg").write_bytes(b"no photo")
        whole = (work / "few" / "000000.jpg").read_bytes()
        (work / "few" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        expected = _contents(_run(network, work / "few", work / "expected", shard=SHARD)["output"])
        with _cluster(arguments.engine, 3) as (address, pids):
            _run(network, work / "few", work / "warm", shard=SHARD, engine=address, workers=3)
            add(_kills(network, work, expected, address, pids, arguments.kills))
            add(_driver_killed(network, work, expected, address))
        if not arguments.photos:
            return
        _draw(work / "many", arguments.photos)
        add(_speed(network, work, arguments.engine))
        add(_growth(network, work, arguments.engine, arguments.photos))


def _network(work: Path) -> str:
    import keras_retrieval

    path = work / "network.keras"
    keras_retrieval.build("alexnet_gem", weights=None).save(path)
    return str(path)


def _draw(folder: Path, count: int, side: int = 256) -> None:
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        if number < PICTURES:
            coarse = np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path)
        else:
            os.link(folder / f"{number % PICTURES:06}.jpg", path)


def _driver(task: dict[str, Any]) -> None:
    """One run of `extract` in a process of its own."""
    from pipelines.descriptors.extraction import extract_descriptors
    from pipelines.descriptors.options import ExtractOptions

    extract_descriptors(ExtractOptions(**task))
    print(json.dumps({"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def _command(network: str, photos: Path, output: Path, **options: Any) -> list[str]:
    task = {"model": network, "photos": str(photos), "output": str(output), **OPTIONS, **options}
    return [sys.executable, "-m", "bench.engine", "--run", json.dumps(task)]


def _run(network: str, photos: Path, output: Path, **options: Any) -> dict[str, Any]:
    """Runs `extract`; returns its output, the driver's memory in bytes and the CPU time of it and its children in s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(_command(network, photos, output, **options), check=True, stdout=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(ended.stdout.splitlines()[-1]) | {"output": output, "cpu": cpu}


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


@contextmanager
def _cluster(engine: str, workers: int) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """The address of a cluster of processes of this machine, and a function that returns their numbers."""
    if engine == "dask":
        import dask
        import distributed

        options = {"threads_per_worker": 1, "memory_limit": None, "dashboard_address": None, "silence_logs": 50}
        with (
            dask.config.set({"distributed.scheduler.allowed-failures": 0}),
            distributed.LocalCluster(n_workers=workers, **options) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield cluster.scheduler_address, lambda: list(client.run(os.getpid).values())
        return
    import ray

    context = ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    os.environ["RAY_ADDRESS"] = context.address_info["gcs_address"]
    try:
        yield "ray", _actors
    finally:
        del os.environ["RAY_ADDRESS"]
        ray.shutdown()


def _actors() -> list[int]:
    """The processes of Ray's actors, which carry the name of their class."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_Actor"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _finished(output: Path) -> list[Path]:
    return sorted(output.with_name(f"{output.name}.partial").glob(".shard-*.json"))


def _kills(
    network: str, work: Path, expected: dict[str, bytes], address: str, pids: Callable[[], list[int]], runs: int
) -> dict[str, Any]:
    chance = random.Random(0)
    same = 0
    for run in range(runs):
        output = work / f"killed-{run}"
        when = chance.randrange(298 // SHARD), chance.random() * 0.3

        def kill(output: Path = output, when: tuple[int, float] = when) -> None:
            while len(_finished(output)) < when[0] or not output.with_name(f"{output.name}.partial").exists():
                time.sleep(0.01)
            time.sleep(when[1])
            os.kill(chance.choice(pids()), signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        _run(network, work / "few", output, shard=SHARD, engine=address, workers=3)
        same += not killer.is_alive() and _contents(output) == expected
        killer.join(10)
    return {"measurement": "one of three workers killed: every photo once, same bytes", "result": f"{same} of {runs}"}


def _driver_killed(network: str, work: Path, expected: dict[str, bytes], address: str) -> dict[str, Any]:
    output = work / "driver"
    options = {"shard": SHARD, "engine": address, "workers": 3}
    process = subprocess.Popen(_command(network, work / "few", output, **options))
    while len(_finished(output)) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in _finished(output)}
    units = -(-298 // SHARD)
    kept = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal kept
        while not stop.wait(0.01):
            kept = sum(path.exists() and path.stat().st_mtime_ns == when for path, when in done.items()) or kept

    watcher = threading.Thread(target=watch)
    watcher.start()
    _run(network, work / "few", output, **options)
    stop.set()
    watcher.join()
    assert _contents(output) == expected
    return {
        "measurement": f"driver killed after {len(done)} of {units} units: finished units that are done again",
        "result": str(len(done) - kept),
    }


def _pace(network: str, photos: Path, output: Path, **options: Any) -> float:
    """Seconds from the first finished unit to the last, for each photo between."""
    times: dict[str, int] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            for path in _finished(output):
                try:
                    times[path.name] = path.stat().st_mtime_ns
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    _run(network, photos, output, shard=200, **options)
    stop.set()
    watcher.join()
    return (max(times.values()) - min(times.values())) / 1e9 / (len(times) - 1) / 200


def _speed(network: str, work: Path, engine: str) -> dict[str, Any]:
    with _cluster(engine, 1) as (address, _):
        pairs = []
        for turn in range(3):
            here = _pace(network, work / "many", work / f"speed-here-{turn}")
            there = _pace(network, work / "many", work / f"speed-there-{turn}", engine=address, workers=1)
            pairs.append((here, there))
    ratio = sorted(there / here for here, there in pairs)[1]
    return {
        "measurement": "one worker on one machine, time relative to one process, median of three turns",
        "result": f"{ratio:.2f} ({1 / pairs[0][1]:.0f} photos/s)",
    }


def _growth(network: str, work: Path, engine: str, photos: int) -> dict[str, Any]:
    """The cluster ends with the driver, whose children its processes are: their CPU time counts."""
    _draw(work / "small-few", photos, 32)
    _draw(work / "small-many", 10 * photos, 32)
    found = []
    for name in ("small-few", "small-many"):
        options = {"engine": engine, "workers": 1, "shard": 200, "size": 64}
        found.append(_run(network, work / name, work / f"growth-{name}", **options))
    few, many = found
    return {
        "measurement": f"{10 * photos:,} photos of 64 px against {photos:,}: CPU time; memory of the driver a photo",
        "result": f"{many['cpu'] / few['cpu']:.1f} times; {(many['memory'] - few['memory']) / (9 * photos):.0f} bytes",
    }


if __name__ == "__main__":
    main()
