"""What decides how fast this machine computes, as a text under which measurements are remembered."""

import os
import platform
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_cpuinfo() -> str:
    """Returns the content of /proc/cpuinfo on Linux; "" on systems without this file."""
    with suppress(OSError):
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return ""


def processor_flags(cpuinfo: str) -> set[str] | None:
    """Returns the flags of the processor, such as "avx2"; None if `cpuinfo` does not list them."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return None if found is None else set(found[1].split())


def machine_key(cpuinfo: str, packages: Sequence[str], instructions: Sequence[str] = ()) -> str:
    """Returns a text that names the processor, the threads, the packages, and the variables that select kernels.

    Args:
        cpuinfo: the content of /proc/cpuinfo, see `read_cpuinfo`.
        packages: names of packages with their versions.
        instructions: flags of the processor to name where it has them, such as "avx512_bf16".
    """
    named = re.search(r"^(?:model name|Model|CPU part)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    has = sorted(set(instructions) & (processor_flags(cpuinfo) or set()))
    processor = " ".join([named[1], *has]) if named else platform.processor()
    variables = [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    return "; ".join([platform.machine(), processor, f"{cores()} threads", *packages, *variables])
