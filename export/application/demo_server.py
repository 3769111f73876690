"""The server that a demo leaves running: how it is started, found again and ended."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_retrieval.pipelines.files.child_process import clean_environment, failure, python_module
from keras_retrieval.pipelines.files.locks import lock

from .children import ENVIRONMENT, last_lines
from .errors import StepFailedError

PROGRAM = python_module("keras_retrieval")

LOCK, PROCESS = "server.lock", "server.pid"

_START_SECONDS = 120.0
_END_SECONDS = 40.0
_ADDRESSES = re.compile(r"gRPC at ([^\s,]+),.*?^page: (\S+)", re.MULTILINE | re.DOTALL)

# The shell writes its process number and becomes the server, so that there is no moment without the number.
_SHELL = ("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"')


@dataclass(frozen=True)
class Served:
    """The addresses of a running server.

    Attributes:
        grpc: address for gRPC, HOST:PORT.
        page: address of the search page.
    """

    grpc: str
    page: str


def start_server(work: Path, arguments: Sequence[str], log: Path, program: Sequence[str] = PROGRAM) -> Served:
    """Starts `serve` apart from this process and its terminal, and waits until its page can be opened.

    The server holds a lock on a file in `work` as long as it runs, by which `stop_server` recognises it.

    Args:
        work: folder of the demo.
        arguments: the arguments of `serve`.
        log: the file for the server's output; an existing one is replaced.
        program: the command `keras-retrieval`.

    Returns:
        The addresses of the server.

    Raises:
        StepFailedError: the server has ended, or its page could not be opened within two minutes; no server is left.
        OSError: a file cannot be written, or the server cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (work / LOCK).open("ab") as held, log.open("wb") as output:
        lock(held.fileno(), wait=False)
        server = subprocess.Popen(
            [*_SHELL, str(work / PROCESS), *program, "serve", *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            pass_fds=[held.fileno()], env={**clean_environment(), **ENVIRONMENT},
        )  # fmt: skip
    try:
        return _wait_for_page(server, log)
    except BaseException:
        _kill(server.pid)
        server.wait()
        (work / PROCESS).unlink(missing_ok=True)
        raise


def stop_server(work: Path) -> bool:
    """Ends the server that a demo has left running.

    Args:
        work: folder of the demo.

    Returns:
        Whether a server was running.
    """
    if not (work / LOCK).is_file():
        return False
    with (work / LOCK).open("ab") as held:
        if not _is_locked(held.fileno()):
            return False
        number = _process(work / PROCESS)
        if number is None:
            return False
        os.kill(number, signal.SIGTERM)
        end = time.monotonic() + _END_SECONDS
        while _is_locked(held.fileno()) and time.monotonic() < end:
            time.sleep(0.05)
        if _is_locked(held.fileno()):
            _kill(number)
    (work / PROCESS).unlink(missing_ok=True)
    return True


def _wait_for_page(server: "subprocess.Popen[bytes]", log: Path) -> Served:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        found = _ADDRESSES.search(log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return Served(found[1], found[2])
        if server.poll() is not None:
            reason = failure(server.returncode, last_lines(log, 1))
            raise StepFailedError(f"{reason} (log: {log})", reason, log)
        time.sleep(0.1)
    reason = f"the server has not started within {_START_SECONDS:g} s"
    raise StepFailedError(f"{reason} (log: {log})", reason, log)


def _is_locked(descriptor: int) -> bool:
    """Returns whether another process holds the lock of a file; if none does, this process holds it from then on."""
    try:
        lock(descriptor, wait=False)
    except BlockingIOError:
        return True
    return False


def _process(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _kill(number: int) -> None:
    try:
        os.killpg(number, signal.SIGKILL)
    except ProcessLookupError:
        return
