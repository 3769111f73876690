"""A job of numbers, of which each unit writes a file once, for the tests of engines."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError
from pipelines.engines.work import Worker
from pipelines.files.shards import ShardedFolder


@dataclass(frozen=True)
class SmallJob:
    """Writes the squares of numbers.

    Attributes:
        folder: folder of the shards; each attempt leaves a file beside it.
        fault: maps a unit's number to what befalls its attempts: "killed" (the process, before it commits, at the first
            attempt), "killed after" (after the commit, at the first attempt), "outage" (at the first two), "broken" (at
            each) or "refused" (with an error of this package).
    """

    folder: Path
    fault: dict[int, str]

    @property
    def sharded(self) -> ShardedFolder:
        return ShardedFolder(self.folder, "squares", 1, "squares")

    def open(self) -> Worker:
        return self._work

    def attempts(self, number: int) -> int:
        return len(list(self.folder.parent.glob(f"attempt-{number}-*")))

    def _work(self, number: int, unit: list[int], advance: Callable[[int], None]) -> int:
        before, fault = self.attempts(number), self.fault.get(number, "")
        (self.folder.parent / f"attempt-{number}-{before}").write_text(str(os.getpid()))
        if fault == "killed" and not before:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "broken" or (fault == "outage" and before < 2):
            raise OSError("the file server is gone")
        if fault == "refused":
            raise ArgumentError("the unit is refused")
        with self.sharded.commit(number) as unwritten:
            if unwritten:
                (self.sharded.partial / f"squares-{number}").write_text(str([one * one for one in unit]))
                self.sharded.finish(number, list(map(str, unit)), {})
        advance(len(unit))
        if fault == "killed after" and not before:
            os.kill(os.getpid(), signal.SIGKILL)
        return sum(unit)


def units() -> dict[int, Any]:
    """Six units of three numbers."""
    return {number: [3 * number, 3 * number + 1, 3 * number + 2] for number in range(6)}
