"""Numbered stages of a long run, with an estimate of the whole that follows the measured times."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_retrieval.pipelines.files.durable import write_file

_LEAST_FACTOR, _MOST_FACTOR = 0.2, 20.0


@dataclass
class Stages:
    """The stages of a run and their durations.

    Attributes:
        names: names of the stages, in their order.
        seconds: the expected duration of each stage, by name.
        taken: the duration of each finished stage, by name.
        number: the number of the current stage, from 1; 0 before the first.
    """

    names: Sequence[str]
    seconds: dict[str, float]
    taken: dict[str, float] = field(default_factory=dict)
    number: int = 0
    _began: float = 0.0

    @property
    def name(self) -> str:
        """Name of the current stage."""
        return self.names[self.number - 1]

    @property
    def label(self) -> str:
        """Number and name of the current stage, such as "3 of 7  Search before training"."""
        return f"{self.number} of {len(self.names)}  {self.name}"

    def begin(self, name: str) -> None:
        """Begins a stage, which ends the one before."""
        self.end()
        self.number, self._began = self.names.index(name) + 1, time.monotonic()

    def end(self) -> float:
        """Ends the current stage, and returns its duration in seconds."""
        if not self._began:
            return 0.0
        self.taken[self.name] = time.monotonic() - self._began
        self._began = 0.0
        return self.taken[self.name]

    def left(self) -> float:
        """Estimates the time to the end of the run in seconds.

        The expected durations are multiplied by the factor by which the finished stages took longer.
        """
        factor = self._factor()
        left = factor * sum(self.seconds[name] for name in self.names[self.number :])
        if self._began:
            left += max(0.0, factor * self.seconds[self.name] - (time.monotonic() - self._began))
        return left

    def _factor(self) -> float:
        expected = sum(self.seconds[name] for name in self.taken)
        factor = sum(self.taken.values()) / expected if expected else 1.0
        return min(max(factor, _LEAST_FACTOR), _MOST_FACTOR)


def duration(seconds: float) -> str:
    """Returns a duration in words, such as "40 s", "3 min" or "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def read_seconds(path: Path, run: str) -> dict[str, float]:
    """Reads the durations that `write_seconds` wrote of an equal run; empty if there are none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in found["seconds"].items()} if found["run"] == run else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_seconds(path: Path, run: str, seconds: Mapping[str, float]) -> None:
    """Writes the durations of stages, from which the next equal run is estimated.

    Args:
        path: the file.
        run: a text that equal runs have in common.
        seconds: the duration of each stage, by name.
    """
    rounded = {name: round(value, 1) for name, value in seconds.items()}
    write_file(path, json.dumps({"run": run, "seconds": rounded}, ensure_ascii=False, indent=1) + "\n")
