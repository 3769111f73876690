"""The standard streams of a command: those that are closed when it starts, and an output whose reader has gone."""

import contextlib
import os
import sys
from typing import Any


def open_closed() -> None:
    """Opens the null device in place of each standard stream that is closed, as by `keras-retrieval STEP >&-`.

    Otherwise the next file that is opened would get the number of that stream, and what libraries print would be
    written into it. Called before any file is opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the least number that is free
    sys.stdin = sys.stdin or _stream(0, "r")
    sys.stdout = sys.stdout or _stream(1, "w")
    sys.stderr = sys.stderr or _stream(2, "w")
    sys.__stdout__ = sys.__stdout__ or sys.stdout  # type: ignore[assignment, misc]


def drop_output() -> None:
    """Sends the output from now on, with what is buffered, to the null device; for an output that nobody reads."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.__stdout__.fileno())  # type: ignore[union-attr]
        os.close(null)


def _stream(number: int, mode: str) -> Any:
    return open(number, mode, encoding="utf-8", errors="surrogateescape", closefd=False)
