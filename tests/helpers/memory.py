"""Measures the peak memory of an action."""

from collections.abc import Callable
from pathlib import Path

import pytest

PEAK, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_growth(action: Callable[[], object]) -> float:
    """Megabytes of the process at most while `action` runs, above what it holds before. Skips where Linux is not."""
    if not RESET.exists():
        pytest.skip(f"no peak of memory can be read here: {RESET} is missing")
    RESET.write_text("5")
    before = _peak()
    action()
    return _peak() - before


def _peak() -> float:
    (line,) = (line for line in PEAK.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
