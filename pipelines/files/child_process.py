"""How this package starts Python as a child process, so that no file of the current folder is imported there."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_SAFE_PATH = "PYTHONSAFEPATH"
_RUNS_CODE = ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHONWARNINGS", "PYTHONPLATLIBDIR")


def python_module(module: str) -> tuple[str, ...]:
    """Returns the command that runs a module, without the current folder in the module search path."""
    return (os.path.abspath(sys.executable), "-P", "-m", module)  # noqa: PTH100 - links of environments stay


@contextmanager
def without_current_folder() -> Iterator[None]:
    """Keeps the current folder out of the module search path of Python processes that other packages start."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_SAFE_PATH, None)
        else:
            os.environ[_SAFE_PATH] = before


def clean_environment() -> dict[str, str]:
    """Returns the environment variables of this process without those by which Python would run other code.

    Of PYTHONPATH and PATH, only absolute folders other than the current one are kept.
    """
    variables = {name: value for name, value in os.environ.items() if name not in _RUNS_CODE}
    try:
        current = os.path.realpath(".")
    except OSError:  # it was deleted
        current = ""
    for name in ("PYTHONPATH", "PATH"):
        if name in variables:
            folders = variables.pop(name).split(os.pathsep)
            kept = [folder for folder in folders if Path(folder).is_absolute() and os.path.realpath(folder) != current]
            variables |= {name: os.pathsep.join(kept)} if kept else {}
    return variables


def failure(status: int, lines: Sequence[str]) -> str:
    """Returns the reason for which a child process has failed; it is never empty.

    Args:
        status: its exit status, or minus the number of the signal that has ended it.
        lines: the last lines of its output; the last one is the reason if there is one. The prefix "keras-retrieval
            STEP: " is left out.
    """
    if status < 0:
        memory = ", as systems do when no memory is left" if -status == signal.SIGKILL else ""
        return f"the process was ended by {_signal_name(-status)}{memory}"
    text = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if text.startswith("keras-retrieval ") and ":" in text:
        text = text.partition(":")[2].strip()
    return text or f"the process ended with status {status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
