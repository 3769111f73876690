"""Wrong names, paths and options, and missing extras, are answered before anything heavy is imported, by every step.

The commands run in one process in which the heavy packages can be found, whether or not they are installed, but whose
import is recorded and fails.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
from keras_retrieval.pipelines.command.kinds import PathError, Reads, Writes, require_package
from keras_retrieval.pipelines.command.options import declarations

from keras_retrieval.errors import ArgumentError, MissingExtraError, RetrievalError
from keras_retrieval.steps import STEPS, function_name, module_name
from tests.helpers.step_faults import COMMANDS, faults, make_inputs, options_of

ROOT = Path(__file__).resolve().parents[3]
RUN = """
import contextlib, importlib.machinery, io, json, sys

HEAVY = ("tensorflow keras scipy pandas h5py pycolmap cv2 scann onnx onnxruntime tf2onnx tensorflow_serving "
         "grpc_health pymilvus milvus_lite openvino ncnn sklearn matplotlib jax torch ray dask distributed").split()
imported = []

class Heavy:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name in HEAVY else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        imported.append(module.__name__)
        raise ImportError(f"{module.__name__} is heavy")

sys.meta_path.insert(0, Heavy())
from keras_retrieval.__main__ import main

for line in sys.stdin:
    arguments, missing = json.loads(line)
    imported.clear()
    sys.modules.update(dict.fromkeys(missing))
    error = io.StringIO()
    try:
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            main(arguments)
        end = 0
    except SystemExit as exit:
        end = exit.code
    for name in missing:
        del sys.modules[name]
    text = end if isinstance(end, str) else error.getvalue()
    print(json.dumps([isinstance(end, str) or end != 0, text.strip(), imported]), flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """A function that runs commands and returns for each whether it failed, what it said and what it imported."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)

    def run(commands):
        before = sorted(folder.rglob("*"))
        finished = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{RUN}"],
            input="".join(json.dumps(command) + "\n" for command in commands),
            capture_output=True, text=True, cwd=folder, timeout=300,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stderr
        assert sorted(folder.rglob("*")) == before, "nothing is written"
        return [json.loads(line) for line in finished.stdout.splitlines()]

    return run


def test_every_step_has_a_command():
    assert set(COMMANDS) >= set(STEPS)


def test_every_fault_is_answered_before_anything_heavy_is_imported(answers):
    made = list(faults())
    assert len(made) > 200
    wrong = []
    for fault, (failed, text, imported) in zip(
        made, answers([[[fault.step, *fault.arguments], []] for fault in made]), strict=True
    ):
        lines = text.splitlines() or [""]
        shown = fault.value.partition(":")[2] or fault.value
        if not failed or imported or shown not in lines[-1]:
            wrong.append(f"{fault}: {lines[-1] if failed else 'it succeeds'}{f' ({imported})' if imported else ''}")
    assert not wrong, "\n".join(wrong)


EXTRAS = [
    (["reconstruct", *COMMANDS["reconstruct"]], "pycolmap", "sfm"),
    (["localize", *COMMANDS["localize"]], "pycolmap", "sfm"),
    (["clean", *COMMANDS["clean"]], "pycolmap", "sfm"),
    (["pairs", *COMMANDS["pairs"]], "h5py", "sfm"),
    (["app", "photos", "--train"], "pycolmap", "sfm"),
    (["evaluate", "--bow", "--dataset", "oxford5k", "--photos", "photos", "--output", "NEW"], "pycolmap", "sfm"),
    (["evaluate", *COMMANDS["evaluate"], "--verify", "5"], "pycolmap", "sfm"),
    (["calibrate", *COMMANDS["calibrate"]], "sklearn", "calibrate"),
    (["search", *COMMANDS["search"], "--verify", "5"], "pycolmap", "sfm"),
    (["serve", *COMMANDS["serve"], "--index", "index", "--verify", "5"], "pycolmap", "sfm"),
    (["convert", "network.mat", "NEW.keras"], "scipy", "matlab"),
    (["extract", "model.onnx", "photos", "NEW"], "onnxruntime", "onnx"),
    (["extract", *COMMANDS["extract"], "--edges", "canny"], "cv2", "edges"),
    (["extract", *COMMANDS["extract"], "--format", "parquet"], "pyarrow", "parquet"),
    (["extract", COMMANDS["extract"][0], "s3://bucket/photos", "NEW"], "fsspec", "cloud"),
    (["extract", *COMMANDS["extract"], "--runtime", "onnxruntime"], "onnxruntime", "onnx"),
    (["extract", *COMMANDS["extract"], "--engine", "ray"], "ray", "ray"),
    (["edge-maps", *COMMANDS["edge-maps"], "--engine", "tcp://head:8786"], "distributed", "dask"),
    *[
        ([step, *COMMANDS[step], "--runtime", "openvino"], "openvino", "openvino")
        for step in ("extract", "evaluate", "whiten", "duplicates", "search", "app")
    ],
    (["edge-maps", *COMMANDS["edge-maps"], "--edges", "structured:model.yml.gz"], "cv2", "edges"),
    (["export-onnx", *COMMANDS["export-onnx"]], "tf2onnx", "onnx"),
    (["export-onnx", *COMMANDS["export-onnx"]], "onnxruntime", "onnx"),
    (["export-saved-model", *COMMANDS["export-saved-model"]], "tensorflow_serving", "serving"),
    (["export-saved-model", *COMMANDS["export-saved-model"], "--index", "index"], "scann", "index"),
    (["serve", *COMMANDS["serve"]], "tensorflow_serving", "serving"),
    (["serve", *COMMANDS["serve"]], "grpc_health", "serving"),
    (["index", "descriptors", "milvus://localhost:19530/photos"], "pymilvus", "milvus"),
    (["search", "milvus:///folder/file.db/photos", "photos"], "milvus_lite", "milvus"),
]


def test_a_missing_extra_is_answered_before_anything_heavy_is_imported(answers):
    said = answers([[command, [module]] for command, module, _ in EXTRAS])
    for (command, module, extra), (failed, text, imported) in zip(EXTRAS, said, strict=True):
        assert failed, command
        assert f'pip install "keras-retrieval[{extra}]"' in text, (command, module, text)
        assert not imported, command


EXISTING = [
    (["extract", "model.keras", "photos", "descriptors"], "descriptors was made from other photos or options"),
    (["edge-maps", "photos", "descriptors"], "descriptors contains descriptors, not edge maps"),
    (["positions", "photos", "existing.csv"], "existing.csv exists already"),
    (["index", "descriptors", "index"], "index exists already"),
    (["train", "tuples.npz", "--photos", "photos", "--model", "model.keras", "--output", "run"], "give --resume"),
    (["classify", "landmarks", "--model", "model.keras", "--output", "run", "--min-photos", "2"], "give --resume"),
    (["export-saved-model", "model.keras", "serving/small", "--version", "1"], "serving/small/1 exists already"),
    (["sample-photos", "photos"], "photos"),
    (["reconstruct", "photos", "index"], "index contains something else"),
]


def test_an_output_that_exists_is_answered_before_anything_heavy_is_imported(answers):
    said = answers([[command, []] for command, _ in EXISTING])
    for (command, message), (failed, text, imported) in zip(EXISTING, said, strict=True):
        assert failed, command
        assert message in text, (command, text)
        assert not imported, (command, imported)


@pytest.mark.parametrize("step", STEPS)
def test_every_path_of_an_option_has_a_kind(step):
    options = options_of(step)
    hints, declared = get_type_hints(options), declarations(options)
    assert getattr(importlib.import_module(module_name(step)), function_name(step)).options is options
    without = [
        name
        for name, hint in hints.items()
        if declared[name].kind is None and (hint is Path or Path in _parts(hint) or name in ("model", "weights"))
    ]
    served = {"model"} if step in ("describe", "query") else set()  # the name of a model on the server
    assert set(without) == served


TAKE_ADDRESSES = {
    "app": {"host", "allow_host"}, "extract": {"photos", "output"}, "tuples": {"source", "photos", "descriptors"},
    "evaluate": {"distractors"}, "localize": {"index"}, "index": {"descriptors", "output"},
    "update": {"add", "photos"}, "calibrate": {"index", "local"}, "groups": {"collection", "like", "photos", "local"},
    "search": {"index", "photos", "local"}, "serve": {"index", "local", "host", "allow_host"},
    "edge-maps": {"photos", "output"}, "train": {"photos"}, "classify": {"photos"}, "train-proposals": {"photos"},
    "positions": {"photos"}, "duplicates": {"photos"}, "reconstruct": {"photos"}, "pairs": {"photos", "queries"},
    "clean": {"photos"}, "whiten": {"tuples", "photos"},
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_an_address_is_refused_by_every_option_that_takes_none(step, tmp_path, monkeypatch):
    """Else a folder of the name "s3:" would be made, or "s3:/bucket does not exist" be said of a bucket."""
    monkeypatch.chdir(tmp_path)
    values = "s3://bucket/a", "gs://bucket/a.keras", "s3:/bucket/a.onnx", "https://host/a.csv", "memory://bucket/a.json"
    free = TAKE_ADDRESSES.get(step, set()) | {"engine"}
    for name, declared in declarations(options_of(step)).items():
        if declared.kind is not None and name not in free:
            for value in values:
                with pytest.raises(RetrievalError, match="is an address"):
                    declared.check_kind(name, value)
        elif declared.kind is not None and name in free - {"engine", "host", "allow_host"}:
            said = ""
            try:
                declared.check_kind(name, "memory://bucket/a")
            except RetrievalError as error:  # there is nothing
                said = str(error)
            assert "is an address" not in said, f"--{name}"
    assert not list(tmp_path.iterdir())


def _parts(hint):
    return {hint} | {part for inner in get_args(hint) for part in _parts(inner)} if get_origin(hint) else {hint}


def test_kinds_of_paths(tmp_path):
    file, folder, missing = tmp_path / "file", tmp_path / "folder", tmp_path / "missing"
    file.touch()
    folder.mkdir()
    for kind in (Reads("file"), Reads("any"), Writes("file")):
        kind("FILE", file)
    for kind in (Reads("folder"), Reads("any"), Writes("folder")):
        kind("FOLDER", folder)
    for kind in (Writes("file"), Writes("folder")):
        kind("NEW", missing)
        kind("NEW", missing / "below")
    for kind, value, message in (
        (Reads("file", fix="make it"), missing, "--path {} does not exist: make it"),
        (Reads("file"), folder, "--path {} is a folder, not a file"),
        (Reads("folder"), file, "--path {} is a file, not a folder"),
        (Reads("any"), tmp_path / ("x" * 300), "--path {}: file name too long"),
        (Writes("file"), folder, "--path {} is a folder: name a file"),
        (Writes("folder"), file, "--path {} is a file: name a folder"),
        (
            Writes("folder"),
            file / "below",
            f"--path {{}} cannot be written: {file} is a file, where a folder is needed",
        ),
    ):
        with pytest.raises(PathError) as caught:
            kind("--path", value)
        assert str(caught.value) == message.format(value)
    with pytest.raises(ArgumentError, match=r"^/nowhere does not exist$"):
        Reads("file", ArgumentError)("PATH", "/nowhere")


def test_a_package_is_looked_for_without_importing_it(monkeypatch):
    require_package("json", "JSON", "none")
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    for module in ("pycolmap", "no_such_package", "no_such_package.inner"):
        with pytest.raises(MissingExtraError, match=r'COLMAP is not installed: pip install "keras-retrieval\[sfm\]"'):
            require_package(module, "COLMAP", "sfm")
