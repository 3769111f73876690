"""Remembers in the user's cache folder how fast each runtime was, and what could not be converted."""

import math
from typing import Any

from ..files.machine import machine_key, read_cpuinfo
from ..files.remembered import read_remembered, remember
from .options import PACKAGES

FILE = "runtimes.json"
KEPT = 500
"""Entries that the file has at most; the oldest are dropped."""

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def recall(key: str) -> dict[str, Any] | None:
    """Returns what was remembered under a key; None if nothing was, or it is damaged.

    Returns:
        {"seconds": {runtime: seconds for a megapixel}, "cost": seconds of the conversion and the measurement}, or
        {"failed": why the network was not converted}.
    """
    entry = read_remembered(FILE).get(key)
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


def keep(key: str, entry: dict[str, Any]) -> None:
    """Remembers an entry; does nothing where the cache folder cannot be written."""
    remember(FILE, key, entry, KEPT)


def this_machine() -> str:
    """Returns a text that names the processor, the threads, the versions and what else decides on speeds."""
    from importlib.metadata import PackageNotFoundError, version

    def installed(package: str) -> str:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"no {package}"

    return machine_key(read_cpuinfo(), [installed(package) for package in ("tensorflow", *PACKAGES)], _INSTRUCTIONS)


def size_class(height: int, width: int) -> str:
    """Returns the class of photos that are expected to have the same fastest runtime: areas within a power of two."""
    return f"{2 ** round(math.log2(height * width))} px"
