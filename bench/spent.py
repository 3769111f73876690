"""What a measurement spends: time, the processor's time, and memory.

with spending() as spent:
    work()
print(spent.seconds, spent.processor)
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Spent:
    """What a block has spent, once it has ended.

    Attributes:
        seconds: the time that has passed.
        processor: user and system time in seconds of this process, of all its threads, and of those of its child
            processes that ended in the block.
    """

    seconds: float = 0.0
    processor: float = 0.0


@contextmanager
def spending() -> Iterator[Spent]:
    """Context manager that measures its block, also one that ends with an error."""
    spent, began, before = Spent(), time.perf_counter(), _processor()
    try:
        yield spent
    finally:
        spent.seconds, spent.processor = time.perf_counter() - began, _processor() - before


def _processor() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def peak_bytes() -> int:
    """The largest memory of this process so far in bytes, pages of mapped files included, as Linux reports it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
