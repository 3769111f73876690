"""Loading COLMAP leaves the process as it was."""

import subprocess
import sys

import pytest

pytest.importorskip("pycolmap", reason='pip install "keras-retrieval[sfm]"')

STOPPED = """
import os, signal, threading
from keras_retrieval.pipelines.local_features.colmap import load_colmap
signal.signal(signal.SIGTERM, lambda *_: print("requests are finished"))
loading = threading.Thread(target=load_colmap)
loading.start()
loading.join()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_sigterm_is_still_that_of_the_program():
    """The handler of COLMAP's log ended a server at once, with a stack, in place of the requests that it had begun."""
    ended = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("requests are finished\n", "", 0)
