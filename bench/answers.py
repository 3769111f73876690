"""Processor time until a step answers a wrong name, path or option, and until a client has answered.

    python -m bench.answers [--compared COMMAND] [--steps STEP ..]

Every step is run with up to three of the faults in tests/helpers/step_faults.py: an unknown option, a typo in a name or
a choice, a path that is missing or of the wrong kind. The table contains for each step the number of faults and the
longest of their times: user and system time of the whole process, with Python's start. `query` and `describe` are also
run against a server. --compared runs the faults with another installation, too, such as an earlier version. Both have
byte code, as an installed package has.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.record import recorded
from bench.spent import spending
from keras_retrieval.steps import STEPS
from tests.helpers.step_faults import Fault, faults, make_inputs

OURS = f"{sys.executable} -m keras_retrieval"
TIMEOUT = 30  # seconds after which a command counts as one that does not answer


def cpu_seconds(command: list[str], folder: Path) -> float | None:
    """User and system time of a command in seconds; None if it succeeds or does not end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    try:
        with spending() as spent:
            finished = subprocess.run(command, cwd=folder, capture_output=True, timeout=TIMEOUT, env=environment)
    except subprocess.TimeoutExpired:
        return None
    return None if finished.returncode == 0 else spent.processor


def longest(command: str, made: list[Fault], folder: Path) -> str:
    """The longest time of the faults of a step, and the number of those that are not answered."""
    times = [cpu_seconds([*command.split(), fault.step, *fault.arguments], folder) for fault in made]
    answered, silent = [time for time in times if time is not None], times.count(None)
    return f"{max(answered):.2f}" + (f", {silent} not answered" if silent else "")


def client_seconds(folder: Path) -> dict[str, float]:
    """Processor time of `describe` and `query` of one photo against a server on this machine."""
    from tests.helpers.small import saved_network

    model = str(saved_network(folder))
    run = [*OURS.split()]
    for step in (
        ["extract", model, "photos", "described", "--size", "48"],
        ["index", "described", "found"],
        ["export-saved-model", model, "served/small", "--size", "48"],
    ):
        subprocess.run([*run, *step], cwd=folder, check=True, capture_output=True)
    command = [*run, "serve", "served", "--index", "found", "--port", "0", "--rest-port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        port = _port(server.stdout or ())
        times = {}
        for name in ("describe", "query"):
            asked = [*run, name, "photos/000.png", "--server", f"localhost:{port}", "--model", "small"]
            with spending() as spent:
                subprocess.run(asked, cwd=folder, check=True, capture_output=True)
            times[name] = spent.processor
        server.terminate()
    return times


def _sort(fault: Fault) -> str:
    """What is wrong: an option, a name, or a path."""
    return "option" if not fault.option else "path" if "/" in fault.value else "name"


def _port(lines: Iterable[str]) -> str:
    return next(found[1] for line in lines if (found := re.search(r"gRPC at [^:]*:(\d+)", line)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compared", help="the command keras-retrieval of another installation")
    parser.add_argument("--steps", nargs="*", default=list(STEPS), help="the steps to measure; all if not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, recorded("answers") as add:
        folder = Path(place)
        make_inputs(folder)
        made = list({(fault.step, _sort(fault)): fault for fault in reversed(list(faults()))}.values())
        clients = client_seconds(folder)
        for step in options.steps:
            own = [fault for fault in made if fault.step == step]
            row = {
                "step": f"`{step}`",
                "faults": len(own),
                "CPU until the answer, longest, s": longest(OURS, own, folder),
            }
            if options.compared:
                row["before, s"] = longest(options.compared, own, folder)
            served = clients.get(step)
            add(row | {"CPU against a server, s": None if served is None else f"{served:.2f}"})


if __name__ == "__main__":
    main()
