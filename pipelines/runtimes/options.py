"""The option `--runtime` of all steps that describe photos."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from keras_retrieval.errors import ArgumentError

from ..command.kinds import require_package
from ..command.options import Option, Options
from ..networks.precision import FLOAT32_ONLY

TENSORFLOW, ONNXRUNTIME, OPENVINO, NCNN = "tensorflow", "onnxruntime", "openvino", "ncnn"
JAX = "jax"
"""What computes descriptors where Keras runs on JAX; no value of the option."""
RUNTIMES = ("auto", TENSORFLOW, ONNXRUNTIME, OPENVINO, NCNN)
RUNTIME = "auto"
"""The default of the option in every step."""
RUNTIME_HELP = (
    "What computes descriptors: tensorflow; onnxruntime (extra onnx); openvino (extra openvino); ncnn (extra ncnn), "
    "for VGG and AlexNet; or auto, which measures the installed ones where there are enough photos, and takes the "
    "fastest. In float32 their descriptors are equal to 1e-5."
)
VARIABLE = "KERAS_RETRIEVAL_RUNTIME"
"""The environment variable that names what auto is, such as tensorflow."""

PACKAGES = {
    ONNXRUNTIME: (("onnxruntime", "ONNX Runtime", "onnx"),),
    OPENVINO: (("openvino", "OpenVINO", "openvino"),),
    NCNN: (("ncnn", "ncnn", "ncnn"), ("onnxruntime", "ONNX Runtime", "ncnn")),
}
"""Modules of the runtimes, with their names and the extras that contain them."""
CONVERTERS = (("tf2onnx", "tf2onnx"), ("onnx", "onnx"))
"""Modules that convert a Keras network to ONNX, with their names; all these extras contain them."""


@dataclass(frozen=True, kw_only=True)
class RuntimeOption(Options):
    """The option of steps that describe photos."""

    runtime: Annotated[str, Option(RUNTIME_HELP, choices=RUNTIMES)] = RUNTIME

    def check_packages(self) -> None:
        """Checks that a runtime that is named is installed, and that networks can be converted for it.

        Raises:
            MissingExtraError: a package is not installed.
        """
        super().check_packages()
        require_runtime(self.runtime, getattr(self, "model", None))


def require_runtime(runtime: str, model: str | Path | None = None) -> None:
    """Checks that the packages of a runtime that is named are installed, without importing them.

    Args:
        runtime: the value of the option.
        model: path or name of the network, if it is known: an .onnx file needs no conversion.

    Raises:
        ArgumentError: the runtime is unknown, or it is "tensorflow" for an .onnx file.
        MissingExtraError: a package is not installed.
    """
    if runtime not in RUNTIMES:
        raise ArgumentError(f"--runtime must be one of {', '.join(RUNTIMES)}, got {runtime}")
    converted = model is not None and Path(model).suffix == ".onnx"
    if converted and runtime == TENSORFLOW:
        raise ArgumentError(
            f"--runtime tensorflow does not run .onnx files: give another, or a .keras file, not {model}"
        )
    for module, name, extra in PACKAGES.get(runtime, ()):
        require_package(module, name, extra)
        for converter, called in () if converted else CONVERTERS:
            require_package(converter, called, extra)


def named_runtime(runtime: str) -> str:
    """Returns the runtime that "auto" is by the environment variable; other values are returned unchanged.

    Raises:
        ArgumentError: the variable names no runtime.
        MissingExtraError: the runtime that it names is not installed.
    """
    given = os.environ.get(VARIABLE, "") if runtime == "auto" else ""
    if not given:
        return runtime
    if given not in RUNTIMES:
        raise ArgumentError(f"{VARIABLE} must be one of {', '.join(RUNTIMES)}, got {given}")
    require_runtime(given)
    return given


def runtime_on_workers(runtime: str, model: str | Path) -> str:
    """Returns the runtime of all workers of a cluster; "auto" is ONNX Runtime for an .onnx file, else TensorFlow.

    Where Keras runs on JAX, "auto" is returned, which is JAX.

    Raises:
        ArgumentError, MissingExtraError: see `named_runtime`.
    """
    runtime = named_runtime(runtime)
    if runtime != "auto":
        return runtime
    if Path(model).suffix == ".onnx":
        return ONNXRUNTIME
    return "auto" if os.environ.get("KERAS_BACKEND") == JAX else TENSORFLOW


def check_runtime_precision(runtime: str, precision: str) -> None:
    """Checks that a runtime that is named computes in a precision that is named.

    Raises:
        ArgumentError: the runtime is one of `FLOAT32_ONLY`, and the precision "bfloat16".
    """
    if runtime in FLOAT32_ONLY and precision == "bfloat16":
        raise ArgumentError(f"--runtime {runtime} does not compute in --precision bfloat16: give --runtime openvino")
