"""`--precision`: when auto is bfloat16, and a wrong value is an error before TensorFlow is imported."""

import subprocess
import sys

import pytest

from pipelines.networks import precision as precision_module
from pipelines.networks.precision import native_bfloat16, resolve_precision

NATIVE = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512_bf16\nbogomips\t: 5000\n"


@pytest.mark.parametrize(("cpuinfo", "environment", "gpus", "expected"), [
    (NATIVE, {}, [], (True, "the processor has avx512_bf16")),
    (NATIVE, {"TF_ENABLE_ONEDNN_OPTS": "1"}, [], (True, "the processor has avx512_bf16")),
    (NATIVE.replace("avx512_bf16", "amx_bf16"), {}, [], (True, "the processor has amx_bf16")),
    (NATIVE, {"TF_ENABLE_ONEDNN_OPTS": "0"}, [], (False, "TF_ENABLE_ONEDNN_OPTS turns oneDNN")),
    (NATIVE, {"TF_ENABLE_ONEDNN_OPTS": "False"}, [], (False, "TF_ENABLE_ONEDNN_OPTS turns oneDNN")),
    (NATIVE.replace(" avx512_bf16", ""), {}, [], (False, "the processor has no amx_bf16 or avx512_bf16")),
    (NATIVE.replace("flags", "Features"), {}, [], (False, "instructions are unknown")),
    ("", {}, [], (False, "instructions are unknown")),
    ("", {"TF_ENABLE_ONEDNN_OPTS": "0"}, [(9, 0)], (True, "TensorFlow sees a GPU")),
    ("", {}, [None], (True, "TensorFlow sees a GPU")),
    (NATIVE, {}, [(8, 0), (7, 5)], (False, "compute capability 7.5 has no bfloat16")),
])  # fmt: skip
def test_bfloat16_is_native_where_the_processor_or_gpu_computes_it(cpuinfo, environment, gpus, expected):
    native, reason = native_bfloat16(cpuinfo, environment, gpus)
    assert native == expected[0]
    assert expected[1] in reason


@pytest.mark.parametrize(("cpuinfo", "resolved"), [(NATIVE, "bfloat16"), ("", "float32")])
def test_auto_logs_what_it_chose_and_why(cpuinfo, resolved, monkeypatch, caplog):
    caplog.set_level("INFO", "keras_retrieval")
    monkeypatch.setattr(precision_module, "_cpuinfo", lambda: cpuinfo)
    monkeypatch.setattr(precision_module, "_gpus", list)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert resolve_precision("auto") == resolved
    assert f"precision: {resolved} (the processor" in caplog.text


def test_what_is_given_is_taken_without_a_word(caplog):
    caplog.set_level("INFO", "keras_retrieval")
    assert [resolve_precision(name) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    assert caplog.text == ""


def test_this_machine_has_an_answer():
    assert resolve_precision("auto") in ("float32", "bfloat16")


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
