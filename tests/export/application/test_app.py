"""The command `app`, as a process: its page, its end, a second one, and errors that come at once."""

import base64
import json
import math
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

import pytest

from export.folder_index.folder_index import FolderIndex
from export.index_contract.calibration import FILE, Calibration, Curve, network_of, write_calibration
from tests.helpers.small_collection import network_file, until, write_photo, write_photos

ROOT = Path(__file__).resolve().parents[3]


class App:
    """A running process, and requests to its page, which have `headers`."""

    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, folder, *options):
        network_file(folder)
        arguments = ["--state", folder / "state", "--model", folder / "network.keras", "--size", "16", *options]
        arguments += ["--precision", "float32", "--no-open"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.app_process", folder / "photos", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        first = self.process.stdout.readline()
        self.address = first.split()[1] if "http" in first else ""

    def get(self, path):
        request = urllib.request.Request(self.address + path, headers=self.headers)
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.read()

    def status(self):
        return json.loads(self.get("status.json"))

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def start(tmp_path):
    """A function that starts the command on tmp_path/photos."""
    apps = []

    def begin(*options):
        apps.append(App(tmp_path, *options))
        return apps[-1]

    yield begin
    for app in apps:
        app.process.kill()
        app.process.communicate()


def test_the_page_follows_the_folder_until_it_is_ended(tmp_path, start):
    names = write_photos(tmp_path / "photos", 4)
    app = start()
    until(lambda: app.status()["state"] == "ready")
    assert (app.status()["photos"], app.status()["searchable"]) == (4, 4)
    assert {photo["name"] for photo in json.loads(app.get("photos.json"))["photos"]} == set(names)
    assert b"<html" in app.get("")[:200].lower()
    assert app.get("healthz") == b"ok\n"
    write_photo(tmp_path / "photos" / "new.png", 30)
    until(lambda: app.status()["searchable"] == 5 and app.status()["state"] == "ready")
    file = base64.b64encode((tmp_path / "photos" / "new.png").read_bytes()).decode()
    query = {"queries": [{"file": file}], "k": 2}
    request = urllib.request.Request(f"{app.address}search.json", json.dumps(query).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=20) as response:
        first = json.loads(response.read())["hits"][0]
    assert first["name"] == "new.png"
    assert "probability" not in first
    (place,) = (tmp_path / "state").glob("index-*")
    index = FolderIndex(place)
    network = network_of(index.facts, index.vectors([]).shape[1])
    write_calibration(place / FILE, Calibration({"global": Curve(1.0, (0.0, 0.0))}, 0.99, network))
    with urllib.request.urlopen(request, timeout=20) as response:
        hits = json.loads(response.read())["hits"]
    assert [hit["probability"] for hit in hits] == pytest.approx([1 / (1 + math.exp(-1))] * 2, abs=1e-4)
    second = start()
    assert f"is shown already, at {app.address}" in second.process.communicate(timeout=20)[1]
    assert second.process.returncode == 1
    assert app.end() == 0
    (tmp_path / "token").write_text("a-secret-of-many-characters\n")
    again = start("--base-path", "/mine", "--token", tmp_path / "token")
    assert again.address.endswith("/mine/")
    assert again.get("healthz") == b"ok\n"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        again.get("status.json")
    again.headers = {"Authorization": "Bearer a-secret-of-many-characters"}
    until(lambda: again.status()["state"] == "ready")
    assert again.end(signal.SIGINT) == 0
    assert {path.relative_to(tmp_path / "photos").as_posix() for path in (tmp_path / "photos").rglob("*.png")} == {
        *names,
        "new.png",
    }


def test_a_state_that_was_killed_goes_on(tmp_path, start):
    write_photos(tmp_path / "photos", 4)
    app = start()
    until(lambda: app.status()["searchable"] > 0)
    app.end(signal.SIGKILL)
    app = start()
    until(lambda: app.status()["state"] == "ready")
    assert app.status()["searchable"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["photos", "--model", "gone.keras"], "no network at gone.keras"),
        (["photos", "--base-path", "mine"], "--base-path must be a path such as /photos"),
        (["photos", "--size", "0"], "--size must be at least 1"),
        (["photos", "--state", "photos/state"], "photos/state is inside photos"),
        (["photos", "--host", "203.0.113.7", "--port", "8000"], "the page cannot be served at 203.0.113.7:8000"),
        (["photos", "--port", "70000"], "--port must be at most 65535"),
        (["photos", "--precision", "float8"], "--precision must be one of"),
    ],
)
def test_errors_come_at_once_and_name_the_option(tmp_path, arguments, message):
    write_photos(tmp_path / "photos", 1)
    environment = {**os.environ, "KERAS_RETRIEVAL_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-X", "importtime", "-m", "keras_retrieval", "app", *arguments]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert found.returncode == 1
    lines = [line for line in found.stderr.splitlines() if not line.startswith("import time:")]
    assert message in lines[-1]
    assert len(lines) == 1
    assert "| keras\n" not in found.stderr
    assert "| tensorflow\n" not in found.stderr
