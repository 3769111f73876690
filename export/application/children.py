"""Runs steps as child processes: with a log, lowered priority, and an end together with the parent's."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_retrieval.pipelines.files.child_process import clean_environment, failure, python_module
from keras_retrieval.pipelines.files.progress import PROGRESS_FILE

from keras_retrieval.errors import printable

from .errors import StepFailedError, StepStoppedError

PROGRAM = python_module("keras_retrieval.export.application.child")
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
"""Environment variables of a child, besides those of this process."""

_POLL_SECONDS = 0.25
_END_SECONDS = 5.0  # between SIGTERM and SIGKILL


@dataclass(frozen=True)
class Work:
    """The progress of an operation within a step, such as the extraction of features.

    Attributes:
        label: the name of the operation.
        done: the number of units that are processed.
        total: the number of units in all; None if it is not known.
        unit: the plural name of the units, such as "photos".
    """

    label: str
    done: int
    total: int | None
    unit: str


def run_steps(
    steps: Sequence[Sequence[str]],
    log: Path,
    *,
    nice: int = 0,
    report: Callable[[Work], None] | None = None,
    stopped: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = PROGRAM,
) -> None:
    """Runs steps one after another in a child process, and waits for its end.

    The child is killed, with its own children, if this process ends. Its output is written to a log.

    Args:
        steps: the arguments of each step of `keras-retrieval`, the first of them its name.
        log: the file for the output; an existing one is replaced.
        nice: the amount by which the priority of the child is lowered.
        report: called with the progress of the child whenever it has changed.
        stopped: an event that ends the child when it is set.
        environment: further environment variables of the child.
        program: the command that runs the steps.

    Raises:
        StepFailedError: a step failed.
        StepStoppedError: `stopped` was set.
        OSError: the log cannot be written, or the child cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    progress = log.with_suffix(".progress")
    progress.unlink(missing_ok=True)
    variables = {**clean_environment(), **ENVIRONMENT, PROGRESS_FILE: str(progress.resolve()), **(environment or {})}
    with log.open("wb") as output:
        child = subprocess.Popen(
            [*program, str(nice), json.dumps([list(step) for step in steps])],
            stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=variables, start_new_session=True,
        )  # fmt: skip
        try:
            _wait(child, progress, report, stopped)
        finally:
            _end(child)
            progress.unlink(missing_ok=True)
    if stopped is not None and stopped.is_set() and child.returncode:
        raise StepStoppedError(f"{steps[0][0]} was stopped")
    if child.returncode:
        reason = failure(child.returncode, last_lines(log, 1))
        raise StepFailedError(f"{reason} (log: {log})", reason, log)


def last_lines(log: Path, count: int) -> list[str]:
    """Returns the last lines of a log that are not empty, with control characters escaped.

    Args:
        log: the file.
        count: the maximum number of lines.
    """
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        lines = file.read().decode("utf-8", "backslashreplace").splitlines()
    return [printable(line.strip()) for line in lines if line.strip()][-count:]


def _wait(
    child: "subprocess.Popen[bytes]",
    progress: Path,
    report: Callable[[Work], None] | None,
    stopped: threading.Event | None,
) -> None:
    shown = None
    while True:
        try:
            child.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        else:
            return
        if stopped is not None and stopped.is_set():
            return
        work = _read(progress) if report is not None else None
        if report is not None and work is not None and work != shown:
            shown = work
            report(work)


def _read(progress: Path) -> Work | None:
    try:
        found = json.loads(progress.read_text(encoding="utf-8"))
        return Work(str(found["label"]), int(found["done"]), found["total"], str(found["unit"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Ends the child and its own children, if it runs."""
    if child.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
                child.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                child.wait()
            break
    if child.stdin is not None:
        child.stdin.close()
