"""Imports pycolmap."""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keras_retrieval.errors import missing_extra

_ACTION = 1024  # bytes, more than a struct sigaction has on any system


def load_colmap() -> Any:
    """Imports pycolmap and limits its log to fatal errors. The process keeps its signal handlers.

    Returns:
        The module pycolmap.

    Raises:
        MissingExtraError: pycolmap is not installed.
    """
    # Pillow's zlib must be loaded before pycolmap's own; otherwise saving a PNG ends the process.
    import PIL.Image  # noqa: F401

    try:
        with _signal_handlers_kept():
            import pycolmap
    except ImportError as error:
        raise missing_extra("COLMAP", "sfm", error) from error
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)
    return pycolmap


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restores the handlers of signals at the end, in any thread.

    The log of COLMAP (glog) installs its own when pycolmap is imported, also of SIGTERM: it prints a stack and ends the
    process at once, although Python has a handler, such as that of a server that finishes its requests first.
    """
    if os.name != "posix":
        yield
        return
    action, before = ctypes.CDLL(None).sigaction, dict[int, Any]()
    for number in map(int, signal.valid_signals()):
        kept = ctypes.create_string_buffer(_ACTION)
        if action(number, None, kept) == 0:
            before[number] = kept
    try:
        yield
    finally:
        for number, kept in before.items():
            action(number, kept, None)
