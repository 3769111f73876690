"""Defines the option `--precision` of the steps, and resolves its value "auto" on a machine."""

import json
import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_retrieval.errors import ArgumentError

from ..files.machine import processor_flags, read_cpuinfo
from .bfloat16_speed import FASTER, share_of_float32

log = logging.getLogger("keras_retrieval")

PRECISIONS = ("float32", "bfloat16", "auto")
PRECISION = "auto"
"""The default of the option in every step."""
PRECISION_HELP = (
    "Precision of the trunk: float32; bfloat16; or auto, which is bfloat16 where the processor or GPU computes it "
    "natively, else float32. What was begun in float32 is continued in float32."
)
TRAINING_PRECISION_HELP = f"{PRECISION_HELP} Weights stay float32."
VARIABLE = "KERAS_RETRIEVAL_PRECISION"
"""The environment variable that names what auto is, such as float32 for the same results on all machines of a group."""
FLOAT32_ONLY = {"onnxruntime": "ONNX Runtime", "ncnn": "ncnn"}
"""Values of the option `--runtime` with which nothing is computed in bfloat16, and the names of these runtimes."""
_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}
_AMPERE = (8, 0)  # the lowest compute capability of NVIDIA GPUs that compute bfloat16


def check_precision(precision: str) -> None:
    """Checks the value of the option `--precision`.

    Args:
        precision: the value.

    Raises:
        ArgumentError: the value is not "float32", "bfloat16" or "auto".
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"--precision must be one of {', '.join(PRECISIONS)}, got {precision}")


def resolve_precision(precision: str, model: str | Path = "", begun: str | None = None, runtime: str = "auto") -> str:
    """Resolves the precision "auto" to "bfloat16" if this machine computes it natively, else to "float32".

    The reason for the choice is logged. TensorFlow, or JAX where Keras runs on it, is imported only if the precision is
    "auto".

    Args:
        precision: the value of the option `--precision`: "float32", "bfloat16" or "auto".
        model: path or name of the network to run. For an .onnx file, whose precision was chosen at its export, and for
            a network without a trunk, "auto" becomes "float32".
        begun: the precision with which the run or folder was begun that is continued; None for a new one. If it is
            "float32", "auto" becomes "float32", which every machine computes natively.
        runtime: the value of the option `--runtime`; for one of `FLOAT32_ONLY`, "auto" becomes "float32".

    Returns:
        "float32" or "bfloat16"; a value other than "auto" is returned unchanged.

    Raises:
        ArgumentError: the precision, or the environment variable KERAS_RETRIEVAL_PRECISION, has another value.
    """
    check_precision(precision)
    if precision != "auto":
        return precision
    if Path(model).suffix == ".onnx":
        native, reason = False, "an .onnx network has its precision inside"
    elif begun == "float32":
        native, reason = False, "as it was begun"
    elif _is_without_trunk(Path(model)):
        native, reason = False, "the network has no trunk, a model inside the model"
    elif runtime in FLOAT32_ONLY and begun is None:
        native, reason = False, f"{FLOAT32_ONLY[runtime]} does not compute in bfloat16"
    else:
        native, reason = _on_this_machine()
    resolved = "bfloat16" if native else "float32"
    log.info("precision: %s (%s)", resolved, reason)
    return resolved


def _is_without_trunk(path: Path) -> bool:
    """Whether a .keras file is a network of the user's own whose layers are in no model inside of it."""
    try:
        with zipfile.ZipFile(path) as file:
            layers = json.loads(file.read("config.json"))["config"]["layers"]
        return not any("layers" in layer["config"] for layer in layers)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        return False  # a name, or a file of which loading says what is wrong


def _on_this_machine() -> tuple[bool, str]:
    if given := os.environ.get(VARIABLE):
        if given not in ("float32", "bfloat16"):
            raise ArgumentError(f"{VARIABLE} must be float32 or bfloat16, got {given}")
        return given == "bfloat16", f"{VARIABLE} is set"
    cpuinfo = read_cpuinfo()
    native, reason = native_bfloat16(cpuinfo, os.environ, _gpus())
    if native is not None:
        return native, reason
    share = share_of_float32(cpuinfo)
    return share <= FASTER, f"{reason}; bfloat16 takes {share:g} times as long as float32 in a measurement"


def native_bfloat16(
    cpuinfo: str, environment: Mapping[str, str], gpus: Sequence[tuple[int, int] | None] = ()
) -> tuple[bool | None, str]:
    """Returns whether Keras' backend computes bfloat16 with native instructions of the GPU or the processor.

    Without such instructions bfloat16 is emulated, and a training step of AlexNet takes 16 times as long as in float32.

    Args:
        cpuinfo: the content of /proc/cpuinfo on Linux; "" on systems without this file.
        environment: the environment variables.
        gpus: for each GPU that the backend sees its compute capability, such as (8, 0), or None if it has none; empty
            without GPUs.

    Returns:
        True or False, or None if the processor's instructions are unknown; and the reason as text.
    """
    if gpus:
        old = [gpu for gpu in gpus if gpu is not None and gpu < _AMPERE]
        if old:
            return False, f"a GPU of compute capability {old[0][0]}.{old[0][1]} has no bfloat16"
        return True, "there is a GPU"
    flags = processor_flags(cpuinfo)
    if flags is None:
        return None, "the processor's instructions are unknown"
    found = sorted(_INSTRUCTIONS & flags)
    if not found:
        return False, f"the processor has no {' or '.join(sorted(_INSTRUCTIONS))}"
    if environment.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in ("0", "false"):
        return False, f"the processor has {found[0]}, but TF_ENABLE_ONEDNN_OPTS turns oneDNN, which uses it, off"
    return True, f"the processor has {found[0]}"


def _gpus() -> list[tuple[int, int] | None]:
    import keras

    if keras.backend.backend() == "jax":
        import jax

        found = [device for device in jax.local_devices() if device.platform == "gpu"]
        return [_capability(getattr(device, "compute_capability", "")) for device in found]
    import tensorflow as tf

    details = tf.config.experimental.get_device_details
    return [details(gpu).get("compute_capability") for gpu in tf.config.list_physical_devices("GPU")]


def _capability(text: str) -> tuple[int, int] | None:
    """Reads a compute capability such as "9.0"; None if the GPU has none."""
    major, _, minor = str(text).partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
