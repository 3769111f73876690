"""Measures `make demo` on synthetic photos: its duration, processor time and mAP, with oneDNN's kernels and without.

    python -m bench.demo

Without a network connection, the network is a random AlexNet-GeM. The processor time is that of all processes, without
the server that is left running and is ended here.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .record import recorded
from .spent import spending

_MAP = re.compile(r"mAP ([\d.]+) before and ([\d.]+) after training")


def measure(work: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Runs the demo once and returns its mAP over all photos and over those set aside, and its durations."""
    command = [sys.executable, "-P", "-m", "keras_retrieval", "demo", "--work", str(work)]
    with spending() as spent:
        found = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    print(found.stdout)
    subprocess.run([*command[:5], "--stop", "--work", str(work)], check=True)
    first, last = _MAP.search(found.stdout).groups()  # type: ignore[union-attr]
    outcome = json.loads((work / "training" / "outcome.json").read_text())
    return {
        "mAP before": float(first),
        "mAP after": float(last),
        "of 2 objects not trained on, before": round(100 * outcome["before"], 1),
        "after": round(100 * outcome["after"], 1),
        "seconds": round(spent.seconds),
        "processor seconds": round(spent.processor),
    }


def main() -> None:
    """Measures the demo with and without oneDNN, and records the results."""
    with recorded("demo", "python -m bench.demo") as add, tempfile.TemporaryDirectory() as folder:
        for name, environment in {"oneDNN": {}, "TF_ENABLE_ONEDNN_OPTS=0": {"TF_ENABLE_ONEDNN_OPTS": "0"}}.items():
            add({"kernels": name} | measure(Path(folder) / f"demo-{len(environment)}", environment))


if __name__ == "__main__":
    main()
