"""Commands whose standard streams are closed, or whose reader has gone."""

import os
import subprocess
import sys

import pytest

CLOSED = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
WRITES = """
import sys
from keras_retrieval.standard_streams import open_closed
open_closed()
with open(sys.argv[1], "w") as file:
    print("lost", flush=True)
    print("lost", file=sys.stderr, flush=True)
    file.write(f"{sys.stdin.read()}{min(file.fileno(), 3)}")
"""
GOES_ON = """
import sys
from keras_retrieval.standard_streams import drop_output
try:
    print("nobody reads this", flush=True)
except BrokenPipeError:
    drop_output()
print("nor this", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="only POSIX shells close streams")
def test_a_file_gets_nothing_that_is_printed_to_a_closed_stream(tmp_path):
    subprocess.run([*CLOSED, sys.executable, "-c", WRITES, tmp_path / "file"], check=True)
    assert (tmp_path / "file").read_text() == "3"
    assert subprocess.run([*CLOSED, sys.executable, "-m", "keras_retrieval", "--version"], check=False).returncode == 0


def test_what_follows_a_dropped_output_is_lost_without_an_error():
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-c", GOES_ON], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "")
