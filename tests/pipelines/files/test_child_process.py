"""Child processes import nothing from the current folder, and their failures have a reason."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.files.child_process import clean_environment, failure, python_module, without_current_folder

ROOT = Path(__file__).resolve().parents[3]
STARTS = re.compile(r"subprocess\.|os\.(exec|spawn|posix_spawn|system|popen)|asyncio\.create_subprocess")
STARTED_BY_OTHERS = re.compile(r"multiprocessing|ProcessPoolExecutor|LocalCluster\(")
WINGS = ("keras_retrieval", "pipelines", "export")


@pytest.mark.parametrize("search_path", [None, ".", "", ":", "{here}", "..:sub:{here}"])
def test_a_file_in_the_current_folder_is_never_executed(tmp_path, monkeypatch, search_path):
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        for name in ("csv", "json", "sitecustomize", "usercustomize"):
            (folder / f"{name}.py").write_text("from pathlib import Path\nPath('executed').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if search_path is not None:
        monkeypatch.setenv("PYTHONPATH", search_path.format(here=tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "error::csv.Error")
    command = [*python_module("json.tool"), "--compact"]
    done = subprocess.run(command, input=b"[ 1 ]", capture_output=True, env=clean_environment(), check=True)
    assert json.loads(done.stdout) == [1]
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("before", [None, ""])
def test_processes_that_other_packages_start_do_not_execute_it_either(tmp_path, monkeypatch, before):
    """As multiprocessing starts its processes."""
    (tmp_path / "signal.py").write_text("raise SystemExit('executed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    command = [sys.executable, "-c", "import signal"]
    with without_current_folder():
        subprocess.run(command, check=True)
    assert os.environ.get("PYTHONSAFEPATH") == before
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_only_absolute_folders_elsewhere_stay(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (tmp_path / "link").symlink_to(here)
    monkeypatch.chdir(here)
    for name in ("PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, os.pathsep.join([str(there), ".", "", "bin", str(here), str(tmp_path / "link")]))
    monkeypatch.setenv("OTHER", ".")
    found = clean_environment()
    assert (found["PATH"], found["PYTHONPATH"], found["OTHER"]) == (str(there), str(there), ".")


def test_a_current_folder_that_was_deleted_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert clean_environment()["PATH"]


FAILURES = [
    (1, ["one", "keras-retrieval update: the disk is full"], "the disk is full"),
    (1, ["the last: line", "", "  "], "the last: line"),
    (3, [], "the process ended with status 3"),
    (3, ["  ", "keras-retrieval update: "], "the process ended with status 3"),
    (-9, ["one"], "the process was ended by SIGKILL, as systems do when no memory is left"),
    (-15, [], "the process was ended by SIGTERM"),
    (-40, [], "the process was ended by signal 40"),
]


@pytest.mark.parametrize(("status", "lines", "reason"), FAILURES)
def test_a_failure_has_a_reason(status, lines, reason):
    assert failure(status, lines) == reason


def test_every_child_process_of_the_package_is_started_so():
    starts = []
    for path in sorted(path for wing in WINGS for path in (ROOT / wing).rglob("*.py")):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        assert name == "pipelines/files/child_process.py" or "sys.executable" not in text, name
        assert "without_current_folder()" in text or not STARTED_BY_OTHERS.search(text), name
        for node in ast.walk(ast.parse(text)) if STARTS.search(text) else ():
            if isinstance(node, ast.Call) and STARTS.match(ast.unparse(node.func)):
                replaces = ast.unparse(node.func).startswith("os.exec")
                assert replaces or "env" in {word.arg for word in node.keywords}, f"{name}:{node.lineno}"
                assert "clean_environment()" in text, name
                starts.append(name)
    assert len(starts) == 5
    assert Path(python_module("json")[0]) == Path(sys.executable)
