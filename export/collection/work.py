"""How far an update of a collection is: the step of all steps, photos done of all, photos per second, time left."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

STEPS = 3
LOOKING, LOADING, DESCRIBING = 1, 2, 3
LABELS = {
    LOOKING: "looking for photos",
    LOADING: "loading the network",
    DESCRIBING: "describing photos",
}


@dataclass(frozen=True)
class Work:
    """The progress of an update.

    Attributes:
        step: the number of the present step, from 1.
        steps: the number of steps.
        label: the present step in words.
        done: photos that are done in this step.
        total: photos of this step; 0 if it is not known.
        rate: photos per second; None if it is not known yet.
        seconds_left: the estimated time until the end of the update; None if it is not known yet.
    """

    step: int
    steps: int = STEPS
    label: str = ""
    done: int = 0
    total: int = 0
    rate: float | None = None
    seconds_left: float | None = None

    @property
    def line(self) -> str:
        """The progress in one line for a terminal."""
        parts = [f"step {self.step} of {self.steps}: {self.label}"]
        if self.total:
            parts.append(f"{self.done:,} of {self.total:,} photos")
        if self.rate is not None:
            parts.append(f"{self.rate:.1f} photos/s")
        if self.seconds_left:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Returns a time span in words, such as "2 min" or "1 h 10 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


class Meter:
    """Measures the work and reports each change of it.

    Args:
        report: function that is called with the work after each change.
        clock: the clock, in seconds.
    """

    def __init__(self, report: Callable[[Work], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._report, self._clock = report, clock
        self._work, self._started = Work(0), 0.0

    def begin(self, step: int, total: int = 0, done: int = 0) -> None:
        """Begins a step, or continues the present one with another total, of which `done` photos are done."""
        if step != self._work.step:
            self._started = self._clock()
        self._work = Work(step, label=LABELS[step], total=total, done=done)
        self._report(self._work)

    def advance(self, count: int) -> None:
        """Adds photos that are done."""
        done = self._work.done + count
        rate = done / max(self._clock() - self._started, 1e-3)
        left = (self._work.total - done) / rate if rate else None
        self._work = replace(self._work, done=done, rate=rate, seconds_left=left)
        self._report(self._work)
