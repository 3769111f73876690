"""Time and memory of the intake of a large folder, compared with listing it and reading 64 bytes of each file.

    python -m bench.intake [--files 1000000] [--folder FOLDER]

The folder contains --files small files with the first bytes of a JPEG, 1,000 in each sub-folder; it is made if it does
not exist, and kept. Each method runs in a process of its own, so that peak memory is comparable, and the methods take
turns:

- "list and read", `os.scandir` and, for each file, an open, a read of 64 bytes and a close;
- "first intake", `take_photos` without anything remembered;
- "second intake", `take_photos` after the first one, which opens no file.

The table contains the minimum seconds of each method, its time relative to "list and read", and the growth of the
process's peak memory in KB per file, in which the list of names is included.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.record import recorded
from pipelines.files.cache_folder import CACHE_VARIABLE
from pipelines.photos.intake import take_photos
from pipelines.photos.signatures import HEAD

HEADER = b"\xff\xd8\xff\xe0\0\x10JFIF" + b"\0" * 90
PER_FOLDER = 1000
ROUNDS = 2
METHODS = ("list and read", "first intake", "second intake")


def make_files(folder: Path, count: int) -> None:
    """Makes the folder with its files."""
    for first in range(0, count, PER_FOLDER):
        place = folder / f"{first // PER_FOLDER:05}"
        place.mkdir(parents=True)
        for number in range(first, min(first + PER_FOLDER, count)):
            (place / f"photo-{number:08}.jpg").write_bytes(HEADER)


def list_and_read(folder: str) -> list[str]:
    """Lists the files of a folder and reads the first bytes of each."""
    names, pending = [], [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    pending.append(entry.path)
                else:
                    descriptor = os.open(entry.path, os.O_RDONLY)
                    os.read(descriptor, HEAD)
                    os.close(descriptor)
                    names.append(entry.path)
    return names


def measure(method: str, folder: Path) -> tuple[float, float, int]:
    """Runs a method in this process; returns seconds, growth of peak memory in KB, and the number of files."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    found = list_and_read(str(folder)) if method == METHODS[0] else take_photos(folder).photos
    seconds = time.perf_counter() - started
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(found)


def in_a_process(method: str, folder: Path, cache: str) -> tuple[float, float, int]:
    """Runs a method in a process of its own; see `measure`."""
    if method == METHODS[1]:
        shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, "-m", "bench.intake", "--method", method, "--folder", str(folder)]
    environment = os.environ | {CACHE_VARIABLE: cache}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    seconds, memory, count = output.split()[-3:]
    return float(seconds), float(memory), int(count)


def main() -> None:
    """Measures and records the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000, help="number of files of a folder that is made")
    parser.add_argument("--folder", type=Path, help="folder of files; made in the temporary folder if not given")
    parser.add_argument("--method", choices=METHODS, help="only run this method once and print the measurements")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.gettempdir()) / f"intake-{options.files}"
    if options.method:
        print(*measure(options.method, folder))
        return
    if not folder.exists():
        make_files(folder, options.files)
        time.sleep(3)  # files that were just written are not remembered
    with tempfile.TemporaryDirectory() as cache:
        runs = [[in_a_process(method, folder, cache) for method in METHODS] for _ in range(ROUNDS)]
    best = [min(run[place] for run in runs) for place in range(len(METHODS))]
    with recorded("intake") as add:
        for method, (seconds, memory, count) in zip(METHODS, best, strict=True):
            add(
                {
                    "method": method,
                    "files": f"{count:,}",
                    "seconds": f"{seconds:.1f}",
                    "relative time": f"{seconds / best[0][0]:.2f}",
                    "KB per file": f"{memory / count:.2f}",
                }
            )


if __name__ == "__main__":
    main()
