"""COLMAP's names of photos, and its database."""

import subprocess
import sys

import pytest

from pipelines.sfm.colmap import Database, colmap_name, photo_name
from tests.helpers.deadlines import first_line

pycolmap = pytest.importorskip("pycolmap")

# The file and the locks of a connection that rebuilds the index of a write-ahead log, as SQLite's os_unix.c has them.
RECOVERS = """
import fcntl, sys, time
with open(sys.argv[1], "w+b") as index:
    index.truncate(32768)
    fcntl.lockf(index, fcntl.LOCK_EX, 8, 120)
    fcntl.lockf(index, fcntl.LOCK_SH, 1, 128)
    print("locked", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_names_with_spaces_survive_a_list_of_pairs():
    for name in ("a.jpg", "ein Haus/50% #1.jpg", "tab\tå.png"):
        assert photo_name(colmap_name(name)) == name
        assert not any(letter.isspace() or letter == "#" for letter in colmap_name(name))
    assert colmap_name("plain/å.jpg") == "plain/å.jpg"


def test_a_database_left_without_tables_is_gone_on_with(tmp_path):
    (tmp_path / "database.db").touch()
    database = Database(tmp_path / "database.db")
    assert database.features() == {}
    assert database.inliers() == {}


@pytest.fixture
def recovered(tmp_path):
    """Makes a database that another process recovers for some seconds."""
    path = tmp_path / "database.db"
    pycolmap.Database.open(path).close()
    started = []

    def recover(seconds):
        command = [sys.executable, "-c", RECOVERS, f"{path}-shm", str(seconds)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert first_line(started[-1]) == "locked\n"
        return path

    yield recover
    for process in started:
        process.kill()
        process.communicate()


def test_a_database_that_another_process_recovers_is_waited_for(recovered):
    assert Database(recovered(0.3)).features() == {}


# In a process of its own: where TensorFlow was loaded before COLMAP, its SQLite opens such a database at once.
OPENS = """
import sys
from pathlib import Path
from pipelines.sfm import colmap
colmap.LOCKED_SECONDS = 0.1
try:
    colmap.Database(Path(sys.argv[1]))
except colmap.ReconstructionError as error:
    print(error)
"""


def test_waiting_for_a_database_ends(recovered):
    path = recovered(60)
    printed = subprocess.run([sys.executable, "-c", OPENS, path], capture_output=True, text=True, check=True).stdout
    assert printed.startswith(f"{path} is not a COLMAP database or is damaged")
