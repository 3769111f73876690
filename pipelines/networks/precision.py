"""The option `--precision` of the steps, and how "auto" is resolved on a machine."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_retrieval.errors import ArgumentError

log = logging.getLogger("keras_retrieval")

PRECISIONS = ("float32", "bfloat16", "auto")
PRECISION_HELP = (
    "Precision of the trunk: float32; bfloat16; or auto, which is bfloat16 where the processor or GPU computes it "
    "natively, else float32."
)
TRAINING_PRECISION_HELP = (
    f"{PRECISION_HELP} Weights stay float32. --resume needs the precision that the run began with, so that auto does "
    "not resume a run of the other precision."
)
_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}
_AMPERE = (8, 0)  # the first compute capability of NVIDIA GPUs with bfloat16


def check_precision(precision: str) -> None:
    """Checks the value of `--precision`.

    Raises:
        ArgumentError: the value is not one of PRECISIONS.
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"--precision must be one of {', '.join(PRECISIONS)}, got {precision}")


def resolve_precision(precision: str, model: str | Path = "") -> str:
    """Resolves "auto" to "float32" or "bfloat16" on this machine and logs the reason; returns other values as given.

    TensorFlow is imported for "auto" only.

    Args:
        precision: the value of `--precision`, one of PRECISIONS.
        model: the network to run; the precision of an .onnx file is fixed, so that "auto" is "float32".

    Raises:
        ArgumentError: the precision is not one of PRECISIONS.
    """
    check_precision(precision)
    if precision != "auto":
        return precision
    if Path(model).suffix == ".onnx":
        native, reason = False, "an .onnx network has its precision inside"
    else:
        native, reason = native_bfloat16(_cpuinfo(), os.environ, _gpus())
    resolved = "bfloat16" if native else "float32"
    log.info("precision: %s (%s)", resolved, reason)
    return resolved


def native_bfloat16(
    cpuinfo: str, environment: Mapping[str, str], gpus: Sequence[tuple[int, int] | None] = ()
) -> tuple[bool, str]:
    """Whether TensorFlow computes bfloat16 with native instructions, and the reason; False where that is unknown.

    Without such instructions bfloat16 is emulated: a training step of AlexNet takes 16 times as long as in float32.

    Args:
        cpuinfo: the text of Linux's /proc/cpuinfo; empty where there is none.
        environment: the environment variables.
        gpus: the compute capability of each GPU that TensorFlow sees, None for a GPU without one.
    """
    if gpus:
        old = [gpu for gpu in gpus if gpu is not None and gpu < _AMPERE]
        if old:
            return False, f"a GPU of compute capability {old[0][0]}.{old[0][1]} has no bfloat16"
        return True, "TensorFlow sees a GPU"
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    if flags is None:
        return False, "the processor's instructions are unknown"
    found = sorted(_INSTRUCTIONS & set(flags[1].split()))
    if not found:
        return False, f"the processor has no {' or '.join(sorted(_INSTRUCTIONS))}"
    if environment.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in ("0", "false"):
        return False, f"the processor has {found[0]}, but TF_ENABLE_ONEDNN_OPTS turns oneDNN, which uses it, off"
    return True, f"the processor has {found[0]}"


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _gpus() -> list[tuple[int, int] | None]:
    import tensorflow as tf

    details = tf.config.experimental.get_device_details
    return [details(gpu).get("compute_capability") for gpu in tf.config.list_physical_devices("GPU")]
