"""The option --runtime: its values, packages that are missing, and what it cannot be combined with."""

import pytest

from keras_retrieval.errors import ArgumentError, MissingExtraError
from pipelines.descriptors.options import ExtractOptions
from pipelines.networks.precision import resolve_precision
from pipelines.runtimes import options as module
from pipelines.runtimes.options import VARIABLE, named_runtime, require_runtime


@pytest.fixture
def installed(monkeypatch):
    """Makes only the named modules be installed."""

    def only(*modules):
        def find(name, *_):
            return object() if name in modules else None

        monkeypatch.setattr("importlib.util.find_spec", find)

    return only


def test_an_unknown_runtime_is_refused():
    with pytest.raises(
        ArgumentError, match="--runtime must be one of auto, tensorflow, onnxruntime, openvino, ncnn, got tvm"
    ):
        ExtractOptions("vgg16_gem", "photos", "out", runtime="tvm")


@pytest.mark.parametrize(
    ("runtime", "modules", "message"),
    [
        ("openvino", (), r"OpenVINO.*pip install.*\[openvino\]"),
        ("openvino", ("openvino",), r"tf2onnx.*\[openvino\]"),
        ("onnxruntime", ("tf2onnx", "onnx"), r"ONNX Runtime.*\[onnx\]"),
        ("ncnn", ("tf2onnx", "onnx", "onnxruntime"), r"ncnn is not.*\[ncnn\]"),
        ("ncnn", ("tf2onnx", "onnx", "ncnn"), r"ONNX Runtime.*\[ncnn\]"),
    ],
)
def test_a_missing_package_is_answered_with_the_command(installed, runtime, modules, message):
    installed(*modules)
    with pytest.raises(MissingExtraError, match=message):
        ExtractOptions("vgg16_gem", "photos", "out", runtime=runtime).check_packages()


def test_auto_and_tensorflow_need_nothing(installed):
    installed()
    for runtime in ("auto", "tensorflow"):
        ExtractOptions("vgg16_gem", "photos", "out", runtime=runtime).check_packages()


def test_an_onnx_file_needs_no_conversion_and_no_tensorflow(installed):
    installed("openvino")
    require_runtime("openvino", "net.onnx")
    with pytest.raises(ArgumentError, match="--runtime tensorflow does not run"):
        require_runtime("tensorflow", "net.onnx")


@pytest.mark.parametrize("runtime", ["onnxruntime", "ncnn"])
def test_some_have_no_bfloat16(runtime):
    with pytest.raises(ArgumentError, match=f"--runtime {runtime} does not compute in --precision bfloat16"):
        ExtractOptions("vgg16_gem", "photos", "out", runtime=runtime, precision="bfloat16")
    assert resolve_precision("auto", runtime=runtime) == "float32"


def test_the_variable_names_what_auto_is(monkeypatch):
    monkeypatch.setenv(VARIABLE, "tensorflow")
    assert named_runtime("auto") == "tensorflow"
    assert named_runtime("openvino") == "openvino"
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ArgumentError, match=f"{VARIABLE} must be one of"):
        named_runtime("auto")
    monkeypatch.setenv(VARIABLE, "")
    assert named_runtime("auto") == module.RUNTIME
