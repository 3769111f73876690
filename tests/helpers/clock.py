"""A clock that a test moves, in place of the module `time` in one module.

Never replace a function of `time` itself: the servers that earlier tests left running in other threads would schedule
their next step by the test's clock, and wait for it by the true one, possibly for hours.
"""


class Clock:
    """Stands for `time` in the module under test: a sleep passes at once.

    Attributes:
        now: what all clocks show, in seconds.
        sleeps: the seconds of each sleep.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps.append(seconds)
