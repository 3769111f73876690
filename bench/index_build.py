"""Time and memory of building and tuning an index.

    python -m bench.index_build [--rows 200000,1000000] [--work FOLDER]

The descriptors are those of `bench.index`, of 512 dimensions. The index is built in a separate process. Its processor
time includes that of the processes that it starts. Its peak memory is the largest sum over these processes, without and
with the pages of mapped files, which the system can reclaim. The recall is that which `index` measures and records.
"""

import argparse
import multiprocessing
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from bench.index_methods import K
from bench.made_descriptors import made_descriptors
from bench.record import recorded
from bench.spent import spending

PAUSE = 0.2  # seconds between two readings of the memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="200000", help="numbers of descriptors, separated by commas")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-index-bench",
        help="folder in which descriptors are stored for the next run",
    )
    arguments = parser.parse_args()
    with recorded("index-build") as add:
        for count in map(int, arguments.rows.split(",")):
            folder, _ = made_descriptors(arguments.work, count)
            add({"rows": count} | measured(folder, arguments.work / f"build-{count}"))


def measured(folder: Path, place: Path) -> dict[str, Any]:
    """Builds an index at `place`, where it is removed afterwards; returns the row of the table."""
    shutil.rmtree(place, ignore_errors=True)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=build, args=(folder, place, theirs))
    process.start()
    most = [0.0, 0.0]
    while not ours.poll(PAUSE):
        most = [max(pair) for pair in zip(most, memory(psutil.Process(process.pid)), strict=True)]
        if not process.is_alive() and not ours.poll():
            raise SystemExit(f"building the index failed with status {process.exitcode}")
    found: dict[str, Any] = ours.recv()
    process.join()
    shutil.rmtree(place, ignore_errors=True)
    return found | {"GB": round(most[0], 2), "GB with mapped files": round(most[1], 2)}


def build(folder: Path, place: Path, answer: Any) -> None:
    from export.indexes.index import index
    from export.indexes.open_index import open_index

    with spending() as spent:
        index(folder, str(place), k=K)
    how = open_index(place).facts["configuration"]
    answer.send(
        {
            "leaves": how["leaves"],
            "tuned": f"{how['leaves_to_search']} searched, {how['reorder']} reordered",
            "recall@10": round(how["recall"], 3),
            "s": round(spent.seconds, 1),
            "s of processor time": round(spent.processor, 1),
        }
    )


def memory(process: psutil.Process) -> list[float]:
    """The memory of a process and of its own processes in GB, without and with mapped files (Linux)."""
    anonymous = shared = 0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error, OSError):
            lines = Path(f"/proc/{one.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
            anonymous, shared = anonymous + sizes["Anonymous"], shared + sizes["Pss"]
    return [anonymous / 2**20, shared / 2**20]


if __name__ == "__main__":
    main()
