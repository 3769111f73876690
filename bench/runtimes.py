"""Speed of TensorFlow, ONNX Runtime, OpenVINO and ncnn here relative to the published networks in PyTorch.

    make bench-runtimes        # installs PyTorch into an environment of its own, .venv-torch, and runs this
    python -m bench.runtimes [--torch .venv-torch] [--threads 2] [--rounds 4] [--seconds 30] [--only dinov2vits14_cls]

One photo at a time, as the published code runs, on all cores or on --threads of them. With --threads 1 the processor
time is measured: two threads that wait for each other at barriers lose by other programs on the same cores, PyTorch's
most, and one thread does not. For each network and size all take turns for so many rounds or seconds, whichever is
more, and the fastest of the rounds counts; the table has the milliseconds of PyTorch in float32 and the speeds relative
to it. With "oneDNN off", at the smaller size, TensorFlow takes its own kernels (TF_ENABLE_ONEDNN_OPTS=0), as it does on
processors without AVX-512. The weights are random, on which the time does not depend. "auto" is the fastest in float32,
as `--runtime auto` is.

A second table compares two networks as `extract` runs them, in batches of photos of 4:3: DINOv2 ViT-S/14 at 322 px and
VGG16-GeM at 320 px.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import FOLDER, processor, recorded

ROOT = Path(__file__).resolve().parents[1]
SIZES = {
    "alexnet_gem": [(272, 362), (768, 1024)],
    "vgg16_gem": [(272, 362), (768, 1024)],
    "torchresnet101_gem": [(272, 362), (768, 1024)],
    "convnexttiny_gem": [(272, 362), (768, 1024)],
    "dinov2vits14_cls": [(322, 322), (518, 518)],
}
NCNN = ("alexnet_gem", "vgg16_gem", "vgg19_gem")
"""Networks that ncnn takes."""
BATCHES = "batches"
VARIANTS = (
    "tensorflow float32", "onnxruntime float32", "openvino float32", "ncnn float32", "tensorflow bfloat16",
    "openvino bfloat16",
)  # fmt: skip


class Worker:
    """A process that holds networks and answers requests for one photo with the seconds that it took."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
        )  # fmt: skip
        self._read("ready")

    def _read(self, start: str = "") -> str:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith(start):
                return line
        raise SystemExit(f"a worker ended: {self._process.args!r}")

    def seconds(self, variant: str, height: int, width: int, count: int | None = None) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, filter(None, (variant, height, width, count)))) + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        self._process.communicate("")


def serve(network: str, threads: int) -> None:
    """The worker of this package: describes photos by all runtimes, on `threads` cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    clock = time.process_time if threads == 1 else time.perf_counter
    import keras

    import keras_retrieval
    from pipelines.descriptors.describer import describer
    from pipelines.runtimes.sessions import open_network

    keras.utils.set_random_seed(0)
    model = keras_retrieval.build(network, weights=None)
    path = Path(tempfile.mkdtemp()) / "network.onnx"
    # In a process of its own, for the gigabytes that a conversion takes.
    conversion = multiprocessing.get_context("spawn").Process(target=write_onnx, args=(network, path))
    conversion.start()
    conversion.join()
    halved = keras.models.clone_model(model)
    functions: dict[str, Any] = {
        "tensorflow float32": describer(model),
        "tensorflow bfloat16": describer(halved, bfloat16=True),
        "onnxruntime float32": open_network("onnxruntime", path),
        "openvino float32": open_network("openvino", path),
        "openvino bfloat16": open_network("openvino", path, bfloat16=True),
    }
    if network in NCNN:
        functions["ncnn float32"] = open_network("ncnn", path)
    path.unlink()
    print("ready", flush=True)
    for line in sys.stdin:
        runtime, precision, height, width, *count = line.split()
        shape = (int(*count) or 1, int(height), int(width), 3)
        photos = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        started = clock()
        functions[f"{runtime} {precision}"](photos)
        print(clock() - started, flush=True)


def write_onnx(network: str, path: Path) -> None:
    """Writes a network with random weights as an .onnx file."""
    import keras_retrieval
    from pipelines.runtimes.conversion import convert

    convert(keras_retrieval.build(network, weights=None), (None, None), path)


def measure(network: str, arguments: argparse.Namespace, off: bool) -> list[dict[str, Any]]:
    """The rows of one network."""
    threads, python = arguments.threads, arguments.torch / "bin" / "python"
    torch = Worker([str(python), "bench/pytorch/worker.py", network, str(threads)])
    setting = {"TF_ENABLE_ONEDNN_OPTS": "0"} if off else {}
    ours = _ours(network, threads, **setting)
    rows = []
    for height, width in SIZES[network][:1] if off or arguments.smaller else SIZES[network]:
        calls = {"torch float32": (torch, "float32"), "torch bfloat16": (torch, "bfloat16")}
        calls |= {name: (ours, name) for name in VARIANTS}
        if network not in NCNN:
            calls.pop("ncnn float32")
        if off:
            calls.pop("tensorflow bfloat16")
        for worker, variant in calls.values():
            worker.seconds(variant, height, width)
        turns: list[dict[str, float]] = []
        started = time.monotonic()
        while len(turns) < arguments.rounds or time.monotonic() - started < arguments.seconds:
            turns.append({name: worker.seconds(one, height, width) for name, (worker, one) in calls.items()})
        least = {name: min(turn[name] for turn in turns) for name in calls}
        speeds = {name: f"{least['torch float32'] / value:.2f}" for name, value in least.items()}
        best = min((name for name in least if not name.startswith("torch")), key=least.__getitem__)
        exact = min((name for name in VARIANTS if name in least and name.endswith("float32")), key=least.__getitem__)
        rows.append(
            {
                "network": network,
                "processor": processor(),
                "photo": f"{width} x {height}",
                "threads": threads,
                "oneDNN": "off" if off else "on",
                "torch float32, ms": f"{1000 * least.pop('torch float32'):.0f}",
                **{name: speeds.get(name) for name in ("torch bfloat16", *VARIANTS)},
                "auto, float32": f"{exact.split()[0]} {speeds[exact]}",
                "fastest": f"{best} {speeds[best]}",
            }
        )
    torch.close()
    ours.close()
    return rows


def _ours(network: str, threads: int, **setting: str) -> Worker:
    command = [sys.executable, "-m", "bench.runtimes", "--serve", network, "--threads", str(threads)]
    return Worker(command, **setting)


def batches(rounds: int, threads: int) -> list[dict[str, Any]]:
    """The rows of the second table."""
    from pipelines.descriptors.describer import BATCH_PIXELS

    sides = {"dinov2vits14_cls": (242, 322), "vgg16_gem": (240, 320)}
    counts = {name: BATCH_PIXELS // (height * width) for name, (height, width) in sides.items()}
    workers = {name: _ours(name, threads) for name in sides}
    rows = []
    for variant in VARIANTS:
        if variant.startswith("ncnn"):
            continue  # it does not take the transformer
        least = dict.fromkeys(sides, float("inf"))
        for number in range(rounds + 1):
            for name, worker in workers.items():
                seconds = worker.seconds(variant, *sides[name], counts[name]) / counts[name]
                least[name] = min(least[name], seconds) if number else least[name]
        vit, vgg = least.values()
        rows.append(
            {
                "runtime": variant,
                "threads": threads,
                "VGG16-GeM, 320 px, photos/s": f"{1 / vgg:.1f}",
                "DINOv2 ViT-S/14, 322 px, relative": f"{vgg / vit:.2f}",
            }
        )
    for worker in workers.values():
        worker.close()
    return rows


def _others(networks: list[str], threads: int) -> list[dict[str, Any]]:
    """The recorded rows that are not measured again, such as those of other processors."""
    path = FOLDER / "runtimes.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    ours = [(network, processor(), threads) for network in networks]
    return [row for row in rows if (row["network"], row["processor"], row["threads"]) not in ours]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", type=Path, default=ROOT / ".venv-torch", help="environment that has PyTorch")
    parser.add_argument(
        "--rounds", type=int, default=4, help="least number of times that each is measured; the fastest counts"
    )
    parser.add_argument("--seconds", type=float, default=30, help="least time for each network and size")
    parser.add_argument(
        "--only", nargs="+", choices=(*SIZES, BATCHES), default=[*SIZES, BATCHES],
        help="the networks to measure, and batches for the second table; the other rows stay",
    )  # fmt: skip
    parser.add_argument("--smaller", action="store_true", help="only the smaller size of each network")
    parser.add_argument("--onednn", action="store_true", help="TensorFlow only with oneDNN")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="cores that each runtime may use")
    parser.add_argument("--serve", help="run as a worker for this network")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.threads)
        return
    networks = [name for name in arguments.only if name != BATCHES]
    with recorded("runtimes", "python -m bench.runtimes") as add:
        for row in _others(networks, arguments.threads):
            add(row)
        for off in (False, True)[: 1 if arguments.onednn else 2]:
            for network in networks:
                for row in measure(network, arguments, off):
                    add(row)
    if BATCHES in arguments.only:
        with recorded("runtimes-batches") as add:
            for row in batches(max(1, arguments.rounds // 2), arguments.threads):
                add(row)


if __name__ == "__main__":
    main()
