"""Records measurements. A benchmark prints its table and writes it to docs/measured/NAME.json for the documentation.

    with recorded("pooling") as add:
        add({"pooling": "gem", "ms": f"{value:.1f}"})

The file contains the command, the date, the machine and the rows of the table. Its entry "notes", which is written by
hand, is kept when the file is overwritten; check that the notes still apply before you commit the file.
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
    """Writes a table of measurements to a JSON file; entries "notes" of an existing file are kept.

    Args:
        name: name of the file, without .json.
        rows: the rows of the table, each a dict from the name of a column to a number, a text, or None for an empty
            cell.
        command: the command that made the measurements; "" for the command line of this process.
        folder: folder to which the file is written. It is made if it does not exist.

    Returns:
        The path of the file.
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
    """Context manager that records a table row by row.

    It yields a function that adds a row to the table and prints it. When the context ends without an error, the rows
    are written by `record`, unless there are none.

    Args:
        name: name of the file, without .json.
        command: the command that made the measurements; "" for the command line of this process.
        folder: folder to which the file is written.
    """
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
    """Returns the command that started this process, as typed in a shell."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", spec.name] if spec else ["python", *sys.argv[:1]]
    return shlex.join([*program, *sys.argv[1:]])


def machine() -> dict[str, str]:
    """Describes this machine by the texts "processor" (and cores), "accelerator" and "software" (versions)."""
    found = {package: _version(package) for package in PACKAGES}
    versions = [f"{package} {version}" for package, version in found.items() if version]
    return {
        "processor": f"{os.cpu_count()} cores of {processor()}",
        "accelerator": _accelerator(),
        "software": ", ".join([f"Python {platform.python_version()}", *versions]),
    }


def processor() -> str:
    """Returns the name of the processor and which wide instructions it has."""
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
