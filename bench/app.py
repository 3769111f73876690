"""Times of `app`: until the first photo can be searched, until all can, of a second start, and of an added photo.

    python -m bench.app [--size 320] [--model model.keras] [--photos FOLDER]

`extract` and `index` describe and index the same photos with the same network and precision, in processes of their own.
They are the comparison for the whole. A second start is compared with a process that only imports TensorFlow and loads
the network; the two take turns, and the table has medians. All times are from the start of a process, in seconds. The
second row is measured with the kernels that processors without AVX-512 have (TF_ENABLE_ONEDNN_OPTS=0).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.photos import network_file, photos
from bench.record import recorded

COMMAND = (sys.executable, "-P", "-m", "keras_retrieval")
LOAD = "import sys; from keras_retrieval.pipelines.networks.files import load_model; load_model(sys.argv[1])"
STARTS = 3  # second starts, and loads of the network, of which the median is taken
KERNELS = {"default": {}, "TF_ENABLE_ONEDNN_OPTS=0": {"TF_ENABLE_ONEDNN_OPTS": "0"}}
POLL_SECONDS = 0.1
LONGEST_SECONDS = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photos, which is copied")
    parser.add_argument("--model", type=Path, help="a .keras file in place of VGG16-GeM")
    parser.add_argument("--size", type=int, default=320, help="longest side of the photos in pixels")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder, recorded("app") as add:
        work = Path(folder)
        model = network_file(arguments.model, "vgg16_gem", work)
        shutil.copytree(arguments.photos or photos("eval/oxford_mini/jpg", 1000)[0], work / "photos")
        for kernels, variables in KERNELS.items():
            environment = {**os.environ, **variables, "TF_CPP_MIN_LOG_LEVEL": "3"}
            add({"kernels": kernels} | measure(work, model, arguments.size, environment))


def measure(work: Path, model: Path, size: int, environment: dict[str, str]) -> dict[str, Any]:
    shutil.rmtree(work / "state", ignore_errors=True)
    options = ["--model", str(model), "--size", str(size), "--state", str(work / "state")]
    with app(work, options, environment) as (page, started):
        shown = time.monotonic() - started
        first = until(page, lambda status: status["searchable"] > 0) - started
        whole = until(page, lambda status: status["state"] != "working") - started
        count = page_status(page)["searchable"]
        added = time.monotonic()
        shutil.copyfile(min((work / "photos").rglob("*.jpg")), work / "photos" / "added.jpg")
        found = until(page, lambda status: status["searchable"] > count) - added
        (work / "photos" / "added.jpg").unlink()
    seconds = described(work, model, size, environment)
    starts, loads = [], []
    for _ in range(STARTS):
        with app(work, options, environment) as (page, started):
            starts.append(until(page, lambda status: status["state"] != "working") - started)
        started = time.monotonic()
        subprocess.run([sys.executable, "-P", "-c", LOAD, str(model)], check=True, env=environment)
        loads.append(time.monotonic() - started)
    start, load = statistics.median(starts), statistics.median(loads)
    return {
        "photos": count,
        "page after, s": f"{shown:.1f}",
        "first search after, s": f"{first:.1f}",
        "all after, s": f"{whole:.1f}",
        "extract and index, s": f"{seconds:.1f}",
        "all, relative to extract and index": f"{whole / seconds:.2f}",
        "second start ready after, s": f"{start:.1f}",
        "import and load, s": f"{load:.1f}",
        "second start, relative to import and load": f"{start / load:.2f}",
        "added photo found after, s": f"{found:.1f}",
    }


@contextmanager
def app(work: Path, options: list[str], environment: dict[str, str]) -> Iterator[tuple[str, float]]:
    """Runs `app` on the photos, and gives the address of its page, once it answers, and the time of its start."""
    started = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "app", str(work / "photos"), "--no-open", *options],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        page = process.stdout.readline().split()[-4]
        page_status(page)
        yield page, started
    finally:
        process.terminate()
        process.communicate()


def page_status(page: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{page}status.json") as response:
        return json.loads(response.read())


def until(page: str, reached: Any) -> float:
    """Returns the time at which the status of a page has reached a condition."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        if reached(page_status(page)):
            return time.monotonic()
        time.sleep(POLL_SECONDS)
    sys.exit("the page did not get there within an hour")


def described(work: Path, model: Path, size: int, environment: dict[str, str]) -> float:
    """Returns the seconds that `extract` and `index` take for the photos."""
    for name in ("descriptors", "index"):
        shutil.rmtree(work / name, ignore_errors=True)
    started = time.monotonic()
    extract = ["extract", model, work / "photos", work / "descriptors", "--size", size, "--precision", "auto"]
    for arguments in (extract, ["index", work / "descriptors", work / "index"]):
        subprocess.run([*COMMAND, *map(str, arguments)], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
