"""Shows the progress of long operations on stderr: on a terminal as a bar, otherwise as one line per minute.

If the environment variable KERAS_RETRIEVAL_PROGRESS names a file, the progress is also written there, as JSON with
"label", "done", "total" and "unit", for the process that started this one.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path

from keras_retrieval.errors import printable

from .repeating import repeating

PROGRESS_FILE = "KERAS_RETRIEVAL_PROGRESS"
_silent = ContextVar("silent", default=False)
_SECONDS = 0.5  # between two writes of the file
_written: dict[str, float] = {}  # when each operation was written last; that of the current one only


def note_progress(label: str, done: int, total: int | None, unit: str) -> None:
    """Writes the progress of an operation to the file that KERAS_RETRIEVAL_PROGRESS names, at most twice a second.

    The beginning and the end of an operation are always written. A file that cannot be written is ignored.

    Args:
        label: the name of the operation.
        done: the number of units that are processed.
        total: the number of units in all; None if it is not known.
        unit: the plural name of the units.
    """
    path, now = os.environ.get(PROGRESS_FILE), time.monotonic()
    if not path or (0 < done != total and now - _written.get(label, 0.0) < _SECONDS):
        return
    _written.clear()
    if done:
        _written[label] = now
    temporary = Path(f"{path}.{os.getpid()}")
    with suppress(OSError):
        temporary.write_text(json.dumps({"label": label, "done": done, "total": total, "unit": unit}), encoding="utf-8")
        temporary.replace(path)


@contextmanager
def silent() -> Iterator[None]:
    """Context manager in which operations of the same thread show no progress, because the caller shows its own."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


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
    if _silent.get():
        yield lambda count: None
        return
    noted = 0
    note_progress(label, 0, total, unit)
    with _bar(label, total, unit) if sys.stderr.isatty() else nullcontext(_lines(label, total, unit)) as shown:

        def advance(count: int) -> None:
            nonlocal noted
            noted += count
            shown(count)
            note_progress(label, noted, total, unit)

        yield advance


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """Context manager that shows a line on stderr which the next one replaces; without a terminal, one a minute.

    Yields:
        A function to call with the line; with "" it removes the line from the terminal.
    """
    terminal = sys.stderr.isatty()
    last = time.monotonic()

    def show(text: str) -> None:
        nonlocal last
        if terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[2K{printable(text)[:width]}", end="", file=sys.stderr, flush=True)
        elif text and time.monotonic() - last >= 60:
            last = time.monotonic()
            print(printable(text), file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        show("")


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Context manager that shows how long its block has been running, if that is more than a second.

    Args:
        text: says what is being waited for.
    """
    if _silent.get():
        yield
        return
    started = time.monotonic()
    with status_line() as show, repeating(1.0, lambda: show(f"{text}, {time.monotonic() - started:.0f} s")):
        yield


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
