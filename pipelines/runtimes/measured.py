"""Remembers in the user's cache folder how fast each runtime was, and what could not be converted."""

import json
import math
import os
import platform
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..files.cache_folder import cache_folder
from ..files.durable import write_file
from .options import PACKAGES
from .sessions import cores

FILE = "runtimes.json"
KEPT = 500
"""Entries that the file has at most; the oldest are dropped."""

_VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")


def recall(key: str) -> dict[str, Any] | None:
    """Returns what was remembered under a key; None if nothing was, or it is damaged.

    Returns:
        {"seconds": {runtime: seconds for a megapixel}, "cost": seconds of the conversion and the measurement}, or
        {"failed": why the network was not converted}.
    """
    entry = _kept().get(key)
    if not isinstance(entry, dict):
        return None
    seconds = entry.get("seconds")
    if isinstance(entry.get("failed"), str):
        return {"failed": entry["failed"]}
    if not isinstance(seconds, dict) or "tensorflow" not in seconds:
        return None
    if not all(isinstance(value, int | float) and value > 0 for value in seconds.values()):
        return None
    cost = entry.get("cost")
    return {"seconds": seconds, "cost": cost if isinstance(cost, int | float) else 0.0}


def remember(key: str, entry: dict[str, Any]) -> None:
    """Remembers an entry; nothing where the cache folder cannot be written."""
    folder = cache_folder()
    if folder is None:
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        kept = _kept()
        kept.pop(key, None)
        kept[key] = entry
        write_file(folder / FILE, json.dumps(dict(list(kept.items())[-KEPT:]), indent=1))


def machine_key() -> str:
    """Returns a text that names the processor, the threads, the versions and what else decides on speeds."""
    from importlib.metadata import PackageNotFoundError, version

    def installed(package: str) -> str:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"no {package}"

    packages = [installed(package) for package in ("tensorflow", *PACKAGES)]
    variables = [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    return "; ".join([platform.machine(), _processor(), f"{cores()} threads", *packages, *variables])


def size_class(height: int, width: int) -> str:
    """Returns the class of photos that are expected to have the same fastest runtime: areas within a power of two."""
    return f"{2 ** round(math.log2(height * width))} px"


def _processor() -> str:
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        named = re.search(r"^(?:model name|Model|CPU part)\s*:\s*(.*)$", text, re.MULTILINE)
        flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
        wide = sorted(
            {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"} & set(flags[1].split() if flags else [])
        )
        if named:
            return " ".join([named[1], *wide])
    return platform.processor()


def _kept() -> dict[str, Any]:
    folder = cache_folder()
    if folder is None:
        return {}
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}
