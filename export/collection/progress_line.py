"""One line of progress on a terminal, which is overwritten; elsewhere a line for each step and every half minute."""

import logging
import shutil
import threading
import time
from typing import TextIO

from keras_retrieval.errors import printable

EVERY_SECONDS = 30.0
_FASTEST = 0.1  # seconds between two changes of the line


class ProgressLine:
    """The line of progress.

    Args:
        stream: the stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._lock, self._shown = threading.Lock(), False
        self._label, self._written = "", 0.0

    def show(self, label: str, line: str) -> None:
        """Shows a line.

        Args:
            label: the step; a new one is shown at once.
            line: the text.
        """
        now = time.monotonic()
        with self._lock:
            new = label != self._label
            if not new and now - self._written < (_FASTEST if self._terminal else EVERY_SECONDS):
                return
            self._label, self._written = label, now
            if self._terminal:
                width = shutil.get_terminal_size().columns - 1
                self._write(f"\r\x1b[K{printable(line)[:width]}")
                self._shown = True
            else:
                self._write(f"{printable(line)}\n")

    def clear(self) -> None:
        """Removes the line, before something else is written."""
        with self._lock:
            if self._shown:
                self._write("\r\x1b[K")
                self._shown = False
            self._label = ""

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone
            self._terminal = False

    def make_way(self, record: logging.LogRecord) -> bool:
        """Removes the line before a log record is printed; a filter for the logger."""
        self.clear()
        return True
