"""`--precision`: when auto is bfloat16, and a wrong value is an error before TensorFlow is imported."""

import json
import subprocess
import sys
import zipfile
from importlib import import_module
from inspect import signature

import pytest

from keras_retrieval.errors import ArgumentError
from keras_retrieval.steps import STEPS as STEP_TABLE
from keras_retrieval.steps import function_name, module_name
from pipelines.networks import bfloat16_speed
from pipelines.networks import precision as precision_module
from pipelines.networks.precision import native_bfloat16, resolve_precision

NATIVE = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512_bf16\nbogomips\t: 5000\n"


@pytest.fixture(autouse=True)
def chosen_by_the_machine(monkeypatch):
    monkeypatch.delenv(precision_module.VARIABLE)


@pytest.mark.parametrize(("cpuinfo", "environment", "gpus", "expected"), [
    (NATIVE, {}, [], (True, "the processor has avx512_bf16")),
    (NATIVE, {"TF_ENABLE_ONEDNN_OPTS": "1"}, [], (True, "the processor has avx512_bf16")),
    (NATIVE.replace("avx512_bf16", "amx_bf16"), {}, [], (True, "the processor has amx_bf16")),
    (NATIVE, {"TF_ENABLE_ONEDNN_OPTS": "0"}, [], (False, "TF_ENABLE_ONEDNN_OPTS turns oneDNN")),
    (NATIVE, {"TF_ENABLE_ONEDNN_OPTS": "False"}, [], (False, "TF_ENABLE_ONEDNN_OPTS turns oneDNN")),
    (NATIVE.replace(" avx512_bf16", ""), {}, [], (False, "the processor has no amx_bf16 or avx512_bf16")),
    (NATIVE.replace("flags", "Features"), {}, [], (None, "instructions are unknown")),
    ("", {}, [], (None, "instructions are unknown")),
    ("", {"TF_ENABLE_ONEDNN_OPTS": "0"}, [(9, 0)], (True, "there is a GPU")),
    ("", {}, [None], (True, "there is a GPU")),
    (NATIVE, {}, [(8, 0), (7, 5)], (False, "compute capability 7.5 has no bfloat16")),
])  # fmt: skip
def test_bfloat16_is_native_where_the_processor_or_gpu_computes_it(cpuinfo, environment, gpus, expected):
    native, reason = native_bfloat16(cpuinfo, environment, gpus)
    assert native == expected[0]
    assert expected[1] in reason


@pytest.mark.parametrize(("cpuinfo", "resolved"), [(NATIVE, "bfloat16"), ("flags : avx2", "float32")])
def test_auto_logs_what_it_chose_and_why(cpuinfo, resolved, monkeypatch, caplog):
    caplog.set_level("INFO", "keras_retrieval")
    monkeypatch.setattr(precision_module, "read_cpuinfo", lambda: cpuinfo)
    monkeypatch.setattr(precision_module, "_gpus", list)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert resolve_precision("auto") == resolved
    assert f"precision: {resolved} (the processor" in caplog.text


def test_what_is_given_is_taken_without_a_word(caplog):
    caplog.set_level("INFO", "keras_retrieval")
    assert [resolve_precision(name) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    assert caplog.text == ""


def test_what_was_begun_in_float32_is_continued_in_it_and_bfloat16_only_where_it_is_native(monkeypatch, caplog):
    caplog.set_level("INFO", "keras_retrieval")
    monkeypatch.setattr(precision_module, "_gpus", list)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    for cpuinfo, resolved in ((NATIVE, "bfloat16"), ("flags : avx2", "float32")):
        monkeypatch.setattr(precision_module, "read_cpuinfo", lambda text=cpuinfo: text)
        assert resolve_precision("auto", begun="float32") == "float32"
        assert resolve_precision("auto", begun="bfloat16") == resolved
    assert caplog.text.count("precision: float32 (as it was begun)") == 2
    assert resolve_precision("bfloat16", begun="float32") == "bfloat16", "what is given applies"


@pytest.mark.parametrize(("seconds", "resolved"), [((0.9, 1.0), "bfloat16"), ((0.95, 1.0), "float32")])
def test_where_the_instructions_are_unknown_a_measurement_decides_and_is_kept(
    seconds, resolved, monkeypatch, caplog, tmp_path
):
    caplog.set_level("INFO", "keras_retrieval")
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(precision_module, "read_cpuinfo", lambda: "processor : 0\nFeatures : bf16\nCPU part : 0xd40\n")
    monkeypatch.setattr(precision_module, "_gpus", list)
    measured = []

    def measure(dtype):
        measured.append(dtype)
        return dict(zip(("bfloat16", "float32"), seconds, strict=True))[dtype]

    monkeypatch.setattr(bfloat16_speed, "_seconds", measure)
    assert resolve_precision("auto") == resolved
    assert f"bfloat16 takes {seconds[0]:g} times as long as float32 in a measurement" in caplog.text
    assert resolve_precision("auto") == resolved
    assert measured == ["bfloat16", "float32"], "once"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert resolve_precision("auto") == resolved
    assert len(measured) == 4, "other kernels are measured anew"
    (tmp_path / "cache" / bfloat16_speed.FILE).write_text("damaged")
    assert resolve_precision("auto") == resolved
    assert len(json.loads((tmp_path / "cache" / bfloat16_speed.FILE).read_text())) == 1
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", "")
    assert resolve_precision("auto") == resolved


def test_a_variable_says_what_auto_is(monkeypatch, caplog):
    caplog.set_level("INFO", "keras_retrieval")
    for value in ("float32", "bfloat16"):
        monkeypatch.setenv(precision_module.VARIABLE, value)
        assert resolve_precision("auto") == value
        assert f"precision: {value} (KERAS_RETRIEVAL_PRECISION is set)" in caplog.text
    monkeypatch.setenv(precision_module.VARIABLE, "half")
    with pytest.raises(ArgumentError, match="KERAS_RETRIEVAL_PRECISION must be float32 or bfloat16, got half"):
        resolve_precision("auto")
    assert resolve_precision("float32") == "float32"


def test_the_measurement_runs_on_this_machine(monkeypatch):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", "")
    monkeypatch.setattr(bfloat16_speed, "_SHAPE", (1, 8, 8))
    assert bfloat16_speed.share_of_float32("") > 0


def test_auto_is_the_default_of_every_step_with_the_option():
    steps = {
        step: signature(getattr(import_module(module_name(step)), function_name(step))).parameters
        for step in STEP_TABLE
    }
    defaults = {step: found["precision"].default for step, found in steps.items() if "precision" in found}
    assert set(defaults) >= {"extract", "whiten", "train", "classify", "evaluate"}
    assert set(defaults.values()) == {"auto"}


def test_an_onnx_network_has_its_precision_inside(caplog):
    caplog.set_level("INFO", "keras_retrieval")
    assert resolve_precision("auto", "model.onnx") == "float32"
    assert "has its precision inside" in caplog.text


STEPS = """
import sys
from pathlib import Path
from pipelines import classify, evaluate, extract, train, whiten
folder = Path(sys.argv[1])
for call in (
    lambda: train(folder / "tuples.npz", photos=folder, output=folder / "run", precision="half"),
    lambda: classify(folder, output=folder / "run", precision="half"),
    lambda: extract("vgg16_gem", folder, folder / "out", precision="half"),
    lambda: whiten("vgg16_gem", folder, folder / "out.keras", precision="half"),
    lambda: evaluate("vgg16_gem", dataset="roxford5k", photos=folder, output=folder / "out", precision="half"),
):
    try:
        call()
    except ValueError as error:
        assert str(error) == "--precision must be one of float32, bfloat16, auto, got half", error
    else:
        raise AssertionError("no error")
assert "tensorflow" not in sys.modules and not list(folder.iterdir())
"""


def test_every_step_names_a_wrong_value_before_tensorflow_is_imported(tmp_path):
    found = subprocess.run([sys.executable, "-c", STEPS, str(tmp_path)], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_a_network_without_a_trunk_computes_in_float32(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RETRIEVAL_PRECISION", "bfloat16")
    for name, layers, resolved in [
        ("plain", [{"class_name": "Conv2D", "config": {"name": "conv"}}], "float32"),
        ("built", [{"class_name": "Functional", "config": {"name": "trunk", "layers": []}}], "bfloat16"),
    ]:
        with zipfile.ZipFile(tmp_path / f"{name}.keras", "w") as file:
            file.writestr("config.json", json.dumps({"config": {"layers": layers}}))
        assert resolve_precision("auto", tmp_path / f"{name}.keras") == resolved
    assert resolve_precision("auto", "vgg16_gem") == "bfloat16"
