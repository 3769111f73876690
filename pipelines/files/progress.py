"""Shows the progress of long operations on stderr: on a terminal as a bar, otherwise as one line per minute."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(label: str, total: int | None, unit: str = "photos") -> Iterator[Callable[[int], None]]:
    """Context manager that shows the progress, rate and remaining time of an operation on stderr.

    Args:
        label: the name of the operation, such as "extract".
        total: the number of units, such as photos, that the operation processes in all; None if it is not known.
        unit: the plural name of the units to display.

    Yields:
        A function to call after each part of the work with the number of units processed since its last call.
    """
    if sys.stderr.isatty():
        with _bar(label, total, unit) as advance:
            yield advance
    else:
        yield _lines(label, total, unit)


@contextmanager
def _bar(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}, {{task.fields[rate]}}/s, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, rate="-")
        started, done = time.monotonic(), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            rate = done / max(time.monotonic() - started, 1e-9)
            bar.update(task, advance=count, rate=f"{rate:.1f}")

        yield advance


def _lines(label: str, total: int | None, unit: str) -> Callable[[int], None]:
    started = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal last, done
        done += count
        now = time.monotonic()
        if now - last >= 60:
            last = now
            rate = done / (now - started)
            line = f"{label}: {done:,} {unit}, {rate:.1f}/s"
            if total is not None:
                left = (total - done) / max(rate, 1e-9)
                line = f"{label}: {done:,} of {total:,} {unit}, {rate:.1f}/s, {left / 60:.0f} min left"
            print(line, file=sys.stderr, flush=True)

    return advance
