"""TensorFlow's own log lines do not reach the screen of a command, and can be shown."""

import subprocess
import sys

# A cluster of grappler, as export-onnx makes one, logs through absl.
LOGGING = "from tensorflow.python.grappler.cluster import Cluster; Cluster(); print('end', file=sys.stderr, flush=True)"


def lines_on_stderr(code, **environment):
    finished = subprocess.run(
        [sys.executable, "-c", f"import os, sys; os.environ.update({environment})\n{code}"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return finished.stderr.split("end\n")


def test_lines_of_tensorflow_are_hidden_until_they_are_asked_for():
    code = f"""
from keras_retrieval import library_logs
library_logs.hide()
library_logs.hide()
{LOGGING}
assert library_logs.set_level_of_absl(0)
{LOGGING}
"""
    hidden, shown, _ = lines_on_stderr(code)
    assert "Starting new session" not in hidden
    assert "InitializeLog" not in hidden
    assert "Starting new session" in shown


def test_a_level_that_the_user_sets_applies():
    code = f"from keras_retrieval import library_logs; library_logs.hide()\n{LOGGING}"
    shown, _ = lines_on_stderr(code, TF_CPP_MIN_LOG_LEVEL="0")
    assert "Starting new session" in shown
    assert "oneDNN custom operations" in shown or "optimized to use available CPU instructions" in shown
