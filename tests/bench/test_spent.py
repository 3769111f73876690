"""What a measurement spends: that of child processes, and of commands that fail, counts as well."""

import subprocess
import sys
from pathlib import Path

import pytest

import bench.spent
from bench.spent import Spent, spending

BUSY = "import sys, time; [None for _ in iter(lambda: time.process_time() < 0.3, False)]; sys.exit(1)"


def test_the_time_of_a_command_that_fails():
    found: list[Spent] = []

    def work():
        with spending() as spent:
            found.append(spent)
            subprocess.run([sys.executable, "-c", BUSY], check=True)

    with pytest.raises(subprocess.CalledProcessError):
        work()
    assert 0.3 <= found[0].processor < 30
    assert found[0].seconds >= 0.3


PEAKS = """
from bench.spent import peak_bytes
before = peak_bytes()
bytearray(b'.') * 2**27
print(before, peak_bytes())
"""


def test_the_peak_of_memory_stays_when_it_is_freed():
    root = Path(bench.spent.__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", PEAKS], check=True, capture_output=True, text=True, cwd=root)
    before, after = map(int, found.stdout.split())
    assert 2**26 < after - before < 2**28, found.stdout
