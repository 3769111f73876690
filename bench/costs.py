"""What a photo costs: processor time of `extract`, requests to an S3 server, and bytes that are stored.

    python -m bench.costs [--photos 60]

Each command runs with so many photos and with four times as many, and the difference counts, so that its start is left
out. Photos are of oxford_mini (512 px) where it is there; an S3 server, moto on 127.0.0.1, counts its requests. CPU
time is that of the command's processes. The last column is a million times a photo: extrapolated, not measured.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import cloud
from bench.photos import network_file, photos
from bench.record import recorded
from bench.spent import spending

MILLION, TIMES = 1_000_000, 4
HOUR, BILLION = 3600, 10**9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=60, help="number of photos of the smaller runs")
    count = parser.parse_args().photos
    with tempfile.TemporaryDirectory() as temporary, recorded("costs") as add:
        work = Path(temporary)
        os.environ["KERAS_RETRIEVAL_CACHE"] = str(work / "cache")
        folders = chosen(work, count)
        extra = count * (TIMES - 1)
        for name in ("alexnet_gem", "vgg16_gem"):
            (work / name).mkdir()
            model = str(network_file(None, name, work / name))
            for precision in ("float32", "bfloat16"):
                options = ("--size", "362", "--runtime", "tensorflow", "--precision", precision)
                few, many = (
                    extract(model, str(one), work / name / f"{precision}-{one.name}", *options) for one in folders
                )
                seconds = (many - few) / extra
                what = f"extract, {name}, 362 px, {precision}"
                add(row(what, f"{seconds * 1000:.0f} ms of CPU", f"{seconds * MILLION / HOUR:.0f} hours of a core"))
            rows = [stored(work / name / f"float32-{one.name}") for one in folders]
            size = (rows[1] - rows[0]) / extra
            add(row(f"descriptors, {name}, float32", f"{size:,.0f} bytes", f"{size * MILLION / BILLION:.1f} GB"))
        requests = requests_of(work, folders, str(work / "alexnet_gem" / "model.keras"))
        each = (requests[1] - requests[0]) / extra
        add(row("extract from an S3 server, requests", f"{each:.2f}", f"{each:.2f} million"))


def row(what: str, photo: str, million: str) -> dict[str, str]:
    return {"what": what, "a photo": photo, "1,000,000 photos, extrapolated": million}


def chosen(work: Path, count: int) -> list[Path]:
    """Two folders, of `count` photos and of `TIMES` as many."""
    source, _ = photos("eval/oxford_mini/jpg", count * TIMES)
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".png"))[: count * TIMES]
    folders = []
    for number in (count, count * TIMES):
        folders.append(work / f"photos-{number}")
        folders[-1].mkdir()
        for path in found[:: len(found) // number][:number]:
            shutil.copy(path, folders[-1] / path.name)
    return folders


def extract(model: str, place: str, output: Path, *options: str) -> float:
    """Runs `extract`; returns the seconds of CPU of its processes."""
    command = [sys.executable, "-m", "keras_retrieval", "extract", model, place, str(output), *options]
    with spending() as spent:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return spent.processor


def stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("descriptors-*.npy"))


def requests_of(work: Path, folders: list[Path], model: str) -> list[int]:
    """The requests of a run over each folder on an S3 server that never fails."""
    import fsspec

    cloud.EVERY = BILLION
    server = cloud.FailingServer(outage=0.0)
    os.environ |= {
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": "made",
        "AWS_SECRET_ACCESS_KEY": "made",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    system, counts = fsspec.filesystem("s3"), []
    system.mkdir("bucket")
    for folder in folders:
        system.put(f"{folder}/", f"bucket/{folder.name}/", recursive=True)
    server.failing = True  # which counts
    for folder in folders:
        before = server.requests
        extract(
            model, f"s3://bucket/{folder.name}", work / f"s3-{folder.name}", "--size", "160", "--precision", "float32"
        )
        counts.append(server.requests - before)
    return counts


if __name__ == "__main__":
    main()
