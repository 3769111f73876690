"""The demo's stages, with faked child processes and a faked server; its server, with a faked program; its estimates."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from export.application.demo import demo
from export.application.demo_options import DemoOptions
from export.application.demo_run import Demo
from export.application.demo_server import Served, start_server, stop_server
from export.application.errors import StepFailedError
from export.application.search_quality import search_quality
from export.application.stages import Stages, duration, read_seconds, write_seconds
from keras_retrieval.errors import ArgumentError, RetrievalError
from pipelines.command.options import help_texts
from pipelines.descriptors.extract import extract
from pipelines.networks.build import build
from pipelines.photos.object_folders import find_objects
from tests.export.application.test_training import STEPS as CHAIN_STEPS
from tests.export.application.test_training import Children as ChainChildren
from tests.helpers import small
from tests.helpers.clock import Clock

OWN = "Fotos & mehr ü"


class Children(ChainChildren):
    """Stands for the child processes of the demo, which write descriptors that training improves."""

    def __init__(self, work, online=False, cosine="1.0000", **changes):
        super().__init__(work / "training", **changes)
        self.demo, self.online, self.cosine, self.log = work, online, cosine, None

    def __call__(self, steps, log, **options):
        self.log = log
        log.parent.mkdir(exist_ok=True)
        super().__call__(steps, log, **options)

    def _check(self, step):
        from export.client.query import query
        from export.indexes.index import index
        from export.savedmodel.export_saved_model import export_saved_model
        from pipelines.samples.sample_photos import sample_photos

        known = CHAIN_STEPS | {
            "extract": extract, "index": index, "build": build, "sample-photos": sample_photos,
            "export-saved-model": export_saved_model, "query": query,
        }  # fmt: skip
        flags = {f"--{name.replace('_', '-')}" for name in help_texts(known[step[0]])} | {"-k"}
        assert {flag for flag in step if flag.startswith("-")} <= flags
        self._may_fail(step[0], self.log)

    def __getattr__(self, name):
        if name == "sample-photos":
            return lambda step: Path(step[1]).exists() or draw(Path(step[1]))
        if name in ("export-saved-model", "index"):
            return lambda step: None
        raise AttributeError(name)

    def build(self, step):
        if step[1] == "vgg16_gem" and not self.online:
            reason = "the ImageNet weights of vgg16 could not be downloaded (no route)"
            raise StepFailedError(f"{reason} (log: x)", reason, self.log)
        Path(step[2]).write_bytes(b"weights")

    def reconstruct(self, step):
        self.work.mkdir(exist_ok=True)
        super().reconstruct(step)

    def extract(self, step):
        model, photos = step[1:3]
        names = sorted(path.relative_to(photos).as_posix() for path in Path(photos).rglob("*.png"))
        self.described = dict.fromkeys(names, None)
        self.trained = "model.keras" in model

    def query(self, step):
        self.log.write_text(f"{step[1]}\n  {self.cosine}  a/0.png\n")


def draw(folder):
    for number in range(6):
        small.draw(folder / "abc"[number // 2] / f"{number % 2}.png", 20, 30, seed=number)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a demo; returns what it says."""
    work = tmp_path / "a demo"

    def stored(folder):
        """Descriptors of three objects: the trained network tells them apart."""
        names = list(children.described)
        angles = np.radians([0, 1, 40, 41, 80, 81] if children.trained else [0, 40, 1, 80, 41, 81])
        rows = np.stack([np.cos(angles), np.sin(angles)], 1)[: len(names)]
        return [np.float32(rows)], names, {}

    children = Children(work)
    monkeypatch.setattr("export.application.search_quality.read_descriptors", stored)
    monkeypatch.setattr("export.application.demo_run.read_descriptors", stored)
    served = []

    def serve(folder, arguments, log):
        served.append(arguments)
        return Served("127.0.0.1:1", "http://127.0.0.1:2/")

    def demonstrate(photos=None, **options):
        lines, shown = [], []
        Demo(DemoOptions(photos, work=work, **options), lines.append, shown.append, run=children, serve=serve).run()
        demonstrate.shown = shown
        return lines

    demonstrate.children, demonstrate.work, demonstrate.served = children, work, served
    return demonstrate


def numbered(lines):
    return [found[0] for line in lines if (found := re.match(r"\d of \d  [\w ]+", line))]


def test_synthetic_photos_are_trained_on(run):
    lines = run()
    assert lines[0].startswith("Demo on synthetic photos of buildings: 7 steps, about ")
    assert numbered(lines) == [
        "1 of 7  Photos", "2 of 7  Network", "3 of 7  Search before training", "4 of 7  3D models", "5 of 7  Training",
        "6 of 7  Search after training", "7 of 7  Search page",
    ]  # fmt: skip
    assert run.children.names() == [
        "sample-photos", "build", "build", "extract", "reconstruct", "tuples", "train", "extract", "index",
        "export-saved-model", "query",
    ]  # fmt: skip
    text = "\n".join(lines)
    assert "a random AlexNet-GeM, because ImageNet weights could not be downloaded" in text
    assert "mAP 30.0 before training, 90.0 after" in text
    assert re.search(r"mAP \d\d\.\d before and 100\.0 after training, over 6 photos", text)
    assert "cosine 1.0000" in text
    assert lines[-1].startswith("page: http://127.0.0.1:2/  (`keras-retrieval demo --stop --work '")
    extracts = [call for call in run.children.calls if call[0] in ("extract", "train")]
    assert all(call[call.index("--precision") + 1] == "auto" for call in extracts)
    exported = next(call for call in run.children.calls if call[0] == "export-saved-model")
    assert exported[1].endswith("run/model.keras")
    assert all("left in all" in line for line in run.shown if line)


def test_own_photos_are_only_searched_unless_asked(run, tmp_path):
    draw(tmp_path / OWN)
    run.children.online = True
    lines = run(tmp_path / OWN)
    assert numbered(lines) == ["1 of 4  Photos", "2 of 4  Network", "3 of 4  Search", "4 of 4  Search page"]
    assert run.children.names() == ["build", "extract", "index", "export-saved-model", "query"]
    assert any("VGG16-GeM with ImageNet weights" in line for line in lines)
    assert any("mAP" in line for line in lines)
    assert str(tmp_path / OWN) in run.served[0]
    assert len(numbered(run(tmp_path / OWN, train=True))) == 7


def test_folders_that_are_no_objects_are_said(run, tmp_path):
    for year in (2019, 2020, 2021):
        small.draw(tmp_path / OWN / str(year) / "1.png", 20, 30, seed=year)
    lines = run(tmp_path / OWN)
    (found,) = [line for line in lines if line.startswith("3 of 4")]
    assert "3 photos can be searched; no mAP is printed: " in found


def test_nothing_to_train_on_leaves_the_search_as_it_was(run):
    run.children.clusters = 0
    lines = run()
    assert any("no object could be reconstructed from these photos" in line for line in lines)
    assert any(line.startswith("6 of 7  Search after training: the search is not changed") for line in lines)
    exported = next(call for call in run.children.calls if call[0] == "export-saved-model")
    assert exported[1].endswith("random.keras")
    assert run.children.names().count("extract") == 1


def test_twice_in_a_row_trains_once(run):
    run()
    run.children.calls.clear()
    lines = run()
    assert "train" not in run.children.names()
    assert "build" in run.children.names(), "a network connection may be there now"
    assert numbered(lines)[-1] == "7 of 7  Search page"


@pytest.mark.parametrize(
    ("step", "stage"),
    [
        ("sample-photos", "step 1 of 7, Photos: "),
        ("extract", "step 3 of 7, Search before training: "),
        ("reconstruct", "step 4 of 7, 3D models: "),
        ("train", "step 5 of 7, Training: "),
        ("export-saved-model", "step 7 of 7, Search page: "),
        ("query", "step 7 of 7, Search page: "),
    ],
)
def test_a_failure_names_the_step_and_the_next_demo_goes_on(run, step, stage):
    run.children.fail = [step]
    with pytest.raises(StepFailedError, match=re.escape(stage)) as failed:
        run()
    assert f"{step} failed" in str(failed.value)
    assert numbered(run())[-1] == "7 of 7  Search page"


def test_a_served_network_that_differs_from_the_index_is_a_failure(run):
    run.children.cosine = "0.9500"
    with pytest.raises(StepFailedError, match=r"describes a/0.png otherwise than its index: cosine 0.9500"):
        run()


def test_folders_that_cannot_be_used_are_refused_before_any_work(run, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(ArgumentError, match="contains other files than those of a demo"):
        DemoOptions(work=tmp_path / "other")
    with pytest.raises(RetrievalError, match="is a file"):
        demo(work=tmp_path / "other" / "letter.txt")
    draw(tmp_path / OWN)
    with pytest.raises(RetrievalError, match="is inside"):
        DemoOptions(tmp_path / OWN, work=tmp_path / OWN / "demo")
    with pytest.raises(RetrievalError, match="does not exist"):
        run(tmp_path / "missing")
    assert run.children.calls == []
    before = sorted(path.name for path in (tmp_path / OWN).rglob("*"))
    run(tmp_path / OWN)
    assert sorted(path.name for path in (tmp_path / OWN).rglob("*")) == before


def test_two_demos_in_one_folder(run):
    import fcntl

    run.work.mkdir()
    (run.work / "demo.json").touch()
    with (run.work / "demo.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ArgumentError, match="another demo is running"):
            run()


SERVER = """
import sys, time
print("serving retrieval: gRPC at 127.0.0.1:1234, REST at 127.0.0.1:5678", flush=True)
print("page: http://127.0.0.1:5678/", flush=True)
time.sleep(60)
"""


def test_a_server_runs_on_until_it_is_stopped(tmp_path, capsys):
    work = tmp_path / "ü demo"
    work.mkdir()
    assert stop_server(work) is False
    served = start_server(work, ["x"], work / "server.log", program=[sys.executable, "-c", SERVER])
    assert served == Served("127.0.0.1:1234", "http://127.0.0.1:5678/")
    process = int((work / "server.pid").read_text())
    os.kill(process, 0)
    (work / "demo.json").write_text("{}")
    assert demo(work=work, stop=True) == ""
    assert capsys.readouterr().out == "the demo's server has ended\n"
    os.waitpid(process, 0)  # this process was its parent
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    demo(work=work, stop=True)
    assert "no server of" in capsys.readouterr().out


def test_a_process_number_that_another_process_has_is_left_alone(tmp_path):
    (tmp_path / "server.lock").touch()
    (tmp_path / "server.pid").write_text(str(os.getpid()))
    assert stop_server(tmp_path) is False


def test_a_server_that_fails_leaves_nothing(tmp_path):
    program = [sys.executable, "-c", "import sys; sys.exit('keras-retrieval serve: port 1 is in use')"]
    with pytest.raises(StepFailedError, match=r"^port 1 is in use \(log: "):
        start_server(tmp_path, [], tmp_path / "server.log", program=program)
    assert stop_server(tmp_path) is False
    assert not (tmp_path / "server.pid").exists()


def test_the_map_is_that_of_a_loop(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    names = [f"{one}/{number}.jpg" for one in "abcd" for number in range(4)] + ["e/0.jpg", "outside.jpg"]
    order = rng.permutation(len(names))
    rows = rng.normal(size=(len(names), 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [names[number] for number in order]
    monkeypatch.setattr(
        "export.application.search_quality.read_descriptors", lambda _: ([rows[:7], rows[7:]], names, {})
    )
    precisions = []
    for query, name in enumerate(names):
        one = name.rpartition("/")[0]
        ranking = [names[row] for row in np.argsort(-(rows @ rows[query]), kind="stable") if row != query]
        hits = [rank for rank, found in enumerate(ranking) if one and found.startswith(f"{one}/")]
        if hits:
            areas = [((n / rank if rank else 1.0) + (n + 1) / (rank + 1)) / 2 for n, rank in enumerate(hits)]
            precisions.append(np.mean(areas))
    quality = search_quality(tmp_path, find_objects(names, tmp_path, "folders"))
    assert quality.queries == len(precisions) == 16
    assert quality.mean_ap == pytest.approx(np.mean(precisions), abs=1e-6)


def test_the_estimate_follows_the_measured_times(monkeypatch, tmp_path):
    clock = Clock(1000.0)
    monkeypatch.setattr("export.application.stages.time", clock)
    stages = Stages(("a", "b", "c"), {"a": 10, "b": 20, "c": 30})
    assert stages.left() == 60
    stages.begin("a")
    clock.now += 20
    assert stages.end() == 20
    assert stages.left() == 100, "twice as slow as expected"
    stages.begin("b")
    clock.now += 10
    assert stages.left() == 90
    assert stages.label == "2 of 3  b"
    write_seconds(tmp_path / "timings.json", "run", stages.taken)
    assert read_seconds(tmp_path / "timings.json", "run") == {"a": 20.0}
    assert read_seconds(tmp_path / "timings.json", "another run") == {}
    (tmp_path / "timings.json").write_text(json.dumps([1]))
    assert read_seconds(tmp_path / "timings.json", "run") == {}
    assert [duration(seconds) for seconds in (0.2, 40, 100, 5000, 9000)] == ["1 s", "40 s", "2 min", "83 min", "2.5 h"]


def test_make_installs_what_setup_py_asks_for():
    """The parts that `make` fetches one by one, with a line for each, are those of the package."""
    root = Path(__file__).resolve().parents[3]
    makefile = (root / "Makefile").read_text().replace("$(COMMA)", ",")
    parts = re.findall(r'\$\(BIN\)/python ("[^\n]*"),\$\(OFFLINE\)', makefile)
    requirements = [one for part in parts for one in re.findall(r'"([^"]+)"', part)]
    assert [one.split("~")[0].split(">")[0].split("=")[0] for one in requirements] == [
        "tensorflow", "keras", "pycolmap", "scann",
    ]  # fmt: skip
    setup = (root / "setup.py").read_text()
    assert all(f'"{one}"' in setup for one in requirements)
    assert ".[index,serving,sfm]" in makefile
