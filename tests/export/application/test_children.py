"""Steps in child processes: their log, progress, failures, and their end with the parent's."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from export.application.child import run_steps as run_in_this_process
from export.application.children import PROGRAM, run_steps
from export.application.errors import StepFailedError, StepStoppedError
from tests.helpers.deadlines import wait_until

ROOT = Path(__file__).resolve().parents[3]


def fake(source):
    """A program that gets the same arguments as the real one: nice and the steps as JSON."""
    return [sys.executable, "-c", f"import json, os, signal, sys, time\nsteps = json.loads(sys.argv[2])\n{source}"]


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_real_step_runs_with_lowered_priority_and_its_output_is_in_the_log(tmp_path):
    log = tmp_path / "logs" / "1.log"
    table = tmp_path / "where.csv"
    (tmp_path / "photos").mkdir()
    with pytest.raises(StepFailedError) as failed:
        run_steps([["positions", str(tmp_path / "photos"), str(table)]], log, nice=1)
    assert str(failed.value) == f"{failed.value.reason} (log: {log})"
    assert failed.value.reason.endswith("photos contains no photo: it is empty")
    assert "Traceback" not in log.read_text()


def test_steps_run_one_after_another_until_one_fails(capsys):
    assert run_in_this_process([["--version"], ["--help"]]) == 0
    assert "Usage" in capsys.readouterr().out
    assert run_in_this_process([["nothing"], ["--version"]]) == 1
    found = capsys.readouterr()
    assert "no step 'nothing'" in found.err
    assert found.out == ""


def test_the_log_has_both_outputs_and_the_child_its_arguments(tmp_path):
    program = fake("print('nice', sys.argv[1], steps); print('to stderr', file=sys.stderr)")
    run_steps([["extract", "a b", "ü"]], tmp_path / "log", nice=3, program=program)
    assert (tmp_path / "log").read_text().splitlines() == ["nice 3 [['extract', 'a b', 'ü']]", "to stderr"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("print('keras-retrieval extract: photos: it does not exist'); sys.exit(1)", "photos: it does not exist"),
        ("print('first'); raise ValueError('odd')", "ValueError: odd"),
        ("sys.exit(7)", "the process ended with status 7"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL, as systems do when no memory is left"),
        ("print('a\\x1b[2Jb'); sys.exit(1)", "a\\x1b[2Jb"),
    ],
)
def test_a_failure_is_the_last_line_of_the_log(tmp_path, source, reason):
    with pytest.raises(StepFailedError) as failed:
        run_steps([["extract"]], tmp_path / "log", program=fake(source))
    assert reason in failed.value.reason
    assert failed.value.log == tmp_path / "log"


def test_progress_reaches_the_parent(tmp_path):
    source = """
from pipelines.files.progress import progress
with progress("features", 40) as advance:
    advance(30)
    time.sleep(30)
"""
    seen, stopped = [], threading.Event()

    def report(work):
        seen.append(work)
        if work.done:
            stopped.set()

    with pytest.raises(StepStoppedError):
        run_steps(
            [["reconstruct"]], tmp_path / "log", report=report, stopped=stopped, program=fake(source),
            environment={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert (seen[-1].label, seen[-1].done, seen[-1].total, seen[-1].unit) == ("features", 30, 40, "photos")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_child_and_its_children_are_stopped(tmp_path):
    source = """
if not os.fork():
    time.sleep(60)
print(os.getpgid(0), flush=True)
signal.signal(signal.SIGINT, signal.SIG_IGN)
time.sleep(60)
"""
    stopped, log = threading.Event(), tmp_path / "log"
    thread = threading.Timer(
        0, lambda: (wait_until(lambda: log.is_file() and log.read_text(), "started"), stopped.set())
    )
    thread.start()
    with pytest.raises(StepStoppedError):
        run_steps([["train"]], log, stopped=stopped, program=fake(source))
    thread.join()
    group = int(log.read_text())
    with pytest.raises(ProcessLookupError):
        wait_until(lambda: os.killpg(group, 0) or False, "the group has ended", 5)


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    step = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from export.application.child import end_with_parent
end_with_parent(0)
print(os.getpid(), flush=True)
time.sleep(60)
"""
    parent = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from export.application.children import run_steps
run_steps([["train"]], Path({str(tmp_path / "log")!r}), program=[sys.executable, "-c", {step!r}])
"""
    log = tmp_path / "log"
    process = subprocess.Popen([sys.executable, "-c", parent])
    child = int(wait_until(lambda: log.is_file() and log.read_text().strip(), "the child has started"))
    assert alive(child)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not alive(child), "the child has ended")


def test_the_program_is_this_python_without_the_current_folder():
    assert PROGRAM[:3] == (sys.executable, "-P", "-m")
    assert json.loads(json.dumps(PROGRAM)) == list(PROGRAM)
