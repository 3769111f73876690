"""Extraction on workers: what kills cost, how much slower it is than one process, and how it grows.

    python -m bench.engine [--engine dask] [--photos 2000] [--kills 10]

Photos are synthetic. For kills they have 256 x 256 pixels, and the network is AlexNet with GeM and random weights; for
the rest they have 64 x 64, and the network is one convolution. CPU time is that of all processes: busy cores do not
change it. The table has, for the engine:

- kills: runs over 300 photos, 2 of them broken, with three workers of which one is killed by SIGKILL at a random
  moment; how many ended with every photo once and the same bytes as one process.
- driver: a run whose driver is killed by SIGKILL, and its rerun: units that were done and were done again.
- speed: CPU time of one worker on this machine and of the driver, relative to one process, from `--photos` photos to
  ten times as many.
- growth: CPU time, and memory of the driver, for ten times as many photos.
"""

import argparse
import json
import os
import random
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
from bench.spent import peak_bytes, spending

PICTURES = 100  # different photos; the others are links to them
SHARD = 20  # photos of a unit
OPTIONS = {"size": 256, "precision": "float32", "runtime": "tensorflow"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="dask", choices=("dask", "ray"), help="engine to measure")
    parser.add_argument(
        "--photos", type=int, default=2000, help="with dask, number of photos for speed and growth; 0 for neither"
    )
    parser.add_argument("--kills", type=int, default=10, help="number of runs with a killed worker")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        _driver(json.loads(arguments.run))
        return
    with TemporaryDirectory() as folder, recorded(f"engine-{arguments.engine}") as add:
        work = Path(folder)
        if arguments.kills:
            _killed(work, arguments.engine, arguments.kills, add)
        if arguments.photos and arguments.engine == "dask":  # the processes of Ray's actors end with the run
            _speed_and_growth(work, arguments.engine, arguments.photos, add)


def _killed(work: Path, engine: str, kills: int, add: Callable[[dict[str, Any]], None]) -> None:
    network = _network(work)
    _draw(work / "killed", 298)
    (work / "killed" / "broken.jpg").write_bytes(b"no photo")
    whole = (work / "killed" / "000000.jpg").read_bytes()
    (work / "killed" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    expected = _contents(_run(network, work / "killed", work / "expected", shard=SHARD)["output"])
    with _cluster(engine, 3) as (address, pids):
        _run(network, work / "killed", work / "warm", shard=SHARD, engine=address, workers=3)
        add(_kills(network, work, expected, address, pids, kills))
        add(_driver_killed(network, work, expected, address))


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
    print(json.dumps({"memory": peak_bytes()}))


def _command(network: str, photos: Path, output: Path, **options: Any) -> list[str]:
    task = {"model": network, "photos": str(photos), "output": str(output), **OPTIONS, **options}
    return [sys.executable, "-m", "bench.engine", "--run", json.dumps(task)]


def _run(network: str, photos: Path, output: Path, **options: Any) -> dict[str, Any]:
    """Runs `extract`; returns its output, the driver's memory in bytes and the CPU time of it and its children in s."""
    with spending() as spent:
        ended = subprocess.run(_command(network, photos, output, **options), check=True, stdout=subprocess.PIPE)
    return json.loads(ended.stdout.splitlines()[-1]) | {"output": output, "cpu": spent.processor}


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


@contextmanager
def _cluster(engine: str, workers: int) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """The address of a cluster of processes of this machine, and a function that returns their numbers."""
    if engine == "dask":
        import dask
        import distributed

        options = {
            "threads_per_worker": 1,
            "memory_limit": None,
            "dashboard_address": "127.0.0.1:0",
            "silence_logs": 50,
        }
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
        _run(network, work / "killed", output, shard=SHARD, engine=address, workers=3)
        same += not killer.is_alive() and _contents(output) == expected
        killer.join(10)
    return {"measurement": "one of three workers killed: every photo once, same bytes", "result": f"{same} of {runs}"}


def _driver_killed(network: str, work: Path, expected: dict[str, bytes], address: str) -> dict[str, Any]:
    output = work / "driver"
    options = {"shard": SHARD, "engine": address, "workers": 3}
    process = subprocess.Popen(_command(network, work / "killed", output, **options))
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
    _run(network, work / "killed", output, **options)
    stop.set()
    watcher.join()
    assert _contents(output) == expected
    return {
        "measurement": f"driver killed after {len(done)} of {units} units: finished units that are done again",
        "result": str(len(done) - kept),
    }


def _speed_and_growth(work: Path, engine: str, photos: int, add: Callable[[dict[str, Any]], None]) -> None:
    network = _tiny_network(work)
    _draw(work / "few", photos, 64)
    _draw(work / "many", 10 * photos, 64)
    common: dict[str, Any] = {"shard": 1000, "size": 64}
    cpu, memory = dict[tuple[str, str], float](), dict[str, int]()
    with _cluster(engine, 1) as (address, pids):
        _run(network, work / "few", work / "warm", engine=address, workers=1, **common)
        for folder in ("few", "many"):
            before = _cpu_of(pids())
            found = _run(network, work / folder, work / f"there-{folder}", engine=address, workers=1, **common)
            cpu["there", folder] = found["cpu"] + _cpu_of(pids()) - before
            memory[folder] = found["memory"]
    for folder in ("few", "many"):
        cpu["here", folder] = _run(network, work / folder, work / f"here-{folder}", **common)["cpu"]
    there, here = (cpu[name, "many"] - cpu[name, "few"] for name in ("there", "here"))
    add(
        {
            "measurement": f"one worker, CPU time of {9 * photos:,} photos relative to one process, without the start",
            "result": f"{there / here:.2f} ({there:.0f} s and {here:.0f} s)",
        }
    )
    add(
        {
            "measurement": f"{10 * photos:,} photos against {photos:,}: CPU time; memory of the driver a photo",
            "result": f"{cpu['there', 'many'] / cpu['there', 'few']:.1f} times; "
            f"{(memory['many'] - memory['few']) / (9 * photos):.0f} bytes",
        }
    )


def _cpu_of(pids: list[int]) -> float:
    """CPU time in s of processes that are not children of a run."""
    import psutil

    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def _tiny_network(work: Path) -> str:
    import keras

    from keras_retrieval import layers

    images = keras.Input((None, None, 3), name="images")
    x = layers.PixelNormalization.of("torch", name="normalization")(images)
    x = layers.GeM(name="pooling")(keras.layers.Conv2D(8, 5, 3, activation="relu", name="trunk")(x))
    path = work / "tiny.keras"
    keras.Model(images, layers.L2Normalization(name="l2")(x), name="tiny_gem").save(path)
    return str(path)


if __name__ == "__main__":
    main()
