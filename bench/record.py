"""Measurements as data: every benchmark prints a table and writes it to docs/measured/NAME.json, which the site shows.

    with recorded("pooling") as add:
        add({"pooling": "gem", "ms": f"{value:.1f}"})

A file has the command, the date, the machine and the rows. Notes on the conditions, written by hand, are kept when a
file is written again: check that they still hold before you commit it.
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "measured"
PACKAGES = ("tensorflow", "keras", "numpy")

Row = Mapping[str, Any]


def record(name: str, rows: Sequence[Row], command: str = "", folder: Path = FOLDER) -> Path:
    """Writes a table of measurements.

    Args:
        name: the name of the file, without .json.
        rows: column -> a number, a text, or None for an empty cell; the columns of the first row come first.
        command: what was run; the command line of this process if empty.
        folder: where the file goes.

    Returns:
        The file.
    """
    path = folder / f"{name}.json"
    facts = {"command": command or command_line(), "date": date.today().isoformat(), "machine": machine()}
    if path.exists() and (notes := json.loads(path.read_text(encoding="utf-8")).get("notes")):
        facts["notes"] = notes
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts | {"rows": list(rows)}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


@contextmanager
def recorded(name: str, command: str = "", folder: Path = FOLDER) -> Iterator[Callable[[Row], None]]:
    """A function that prints a row as it is measured; all rows are written at the end, unless an error ends it."""
    rows: list[Row] = []

    def add(row: Row) -> None:
        if not rows:
            print(f"\n| {' | '.join(row)} |\n|{'---|' * len(row)}")
        rows.append(row)
        print(f"| {' | '.join('' if cell is None else str(cell) for cell in row.values())} |", flush=True)

    yield add
    if rows:
        print(f"\nwritten to {record(name, rows, command, folder)}", flush=True)


def command_line() -> str:
    """The command that runs this process, as it would be typed."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", spec.name] if spec else ["python", *sys.argv[:1]]
    return shlex.join([*program, *sys.argv[1:]])


def machine() -> dict[str, str]:
    """The machine: processor and cores, accelerator, software."""
    found = {package: _version(package) for package in PACKAGES}
    versions = [f"{package} {version}" for package, version in found.items() if version]
    return {
        "processor": f"{os.cpu_count()} cores of {_processor()}",
        "accelerator": _accelerator(),
        "software": ", ".join([f"Python {platform.python_version()}", *versions]),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    special = [
        flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in facts.get("flags", "").split()
    ]
    return ", ".join([facts.get("model name", platform.machine()), *special[-2:]])


def _accelerator() -> str:
    if not shutil.which("nvidia-smi"):
        return "no GPU"
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")
    return ", ".join(filter(None, names)) or "no GPU"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
