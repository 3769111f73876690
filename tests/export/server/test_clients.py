"""An independent client: ovmsclient from PyPI, unmodified, in an environment of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.serving_models import save_toy, serving

SCRIPT = Path(__file__).parent / "ovms_predict.py"
CLIENT = "ovmsclient==2023.1"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of a fresh environment that has the client."""
    folder = tmp_path_factory.mktemp("client")
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    make = [uv, "venv", "--quiet", "--python", sys.executable, folder] if uv else [sys.executable, "-m", "venv", folder]
    python = folder / "bin" / "python"
    install = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    for command in (make, [*install, CLIENT]):
        ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
        if ended.returncode:
            pytest.skip(f"{CLIENT} cannot be installed: {ended.stderr[-200:]}")
    return python


def test_ovmsclient(python, tmp_path):
    save_toy(tmp_path / "toy" / "1")
    with serving({"toy": tmp_path / "toy"}) as client:
        command = [python, SCRIPT, str(client.port), str(client.rest_port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    missing = "Error occurred during handling the request: Servable not found for request: Specific(m, 9)"
    expected = {
        "status": "AVAILABLE",
        "metadata": True,
        "prediction": [[2, 4], [6, 8]],
        "error": f"ModelNotFoundError: {missing}",
    }
    assert json.loads(ended.stdout) == {"grpc": expected, "rest": expected}
