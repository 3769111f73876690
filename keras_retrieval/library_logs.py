"""Keeps log lines of libraries off the screen of a command: those of TensorFlow, absl and gRPC.

Each library reports errors as exceptions, too; what it logs besides is for its developers, such as which instructions
of the processor it uses. Where the user sets TF_CPP_MIN_LOG_LEVEL, that level applies, so that all lines can be shown
with `TF_CPP_MIN_LOG_LEVEL=0`.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # 0 shows all lines, 1 hides the level INFO, 2 also WARNING, 3 also ERROR
LIBRARIES = ("libtensorflow_framework.so.2", "libtensorflow_framework.2.dylib")
SET_LEVEL = "_ZN4absl12lts_2025012714SetMinLogLevelENS0_18LogSeverityAtLeastE"
"""absl::SetMinLogLevel(absl::LogSeverityAtLeast), as TensorFlow 2.20's library exports it."""


def hide() -> None:
    """Hides the log lines of libraries that are imported from now on, in this process and in its child processes."""
    os.environ.setdefault(LEVEL, "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


class _Watch(MetaPathFinder):
    """Sets the level of TensorFlow's logs at the moment in which TensorFlow is imported; imports nothing itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "tensorflow":
            sys.meta_path.remove(self)
            _set_levels()
        return None


def _set_levels() -> None:
    import logging

    level = int(os.environ[LEVEL]) if os.environ[LEVEL].isdigit() else 0
    if level >= 2:
        for name in ("tensorflow", "absl"):
            logging.getLogger(name).setLevel(logging.ERROR)
    set_level_of_absl(level)


def set_level_of_absl(level: int) -> bool:
    """Sets the least severity of the lines that XLA and other parts of TensorFlow log through absl.

    TF_CPP_MIN_LOG_LEVEL does not apply to these lines.

    Args:
        level: 0 for all lines, 1 to hide the level INFO, 2 to hide also WARNING, 3 to hide also ERROR.

    Returns:
        Whether the installed TensorFlow has the function that sets the severity.
    """
    import ctypes

    spec = importlib.util.find_spec("tensorflow")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for library in LIBRARIES:
            try:
                set_level = getattr(ctypes.CDLL(str(Path(folder) / library)), SET_LEVEL)
            except (OSError, AttributeError):
                continue
            set_level.argtypes, set_level.restype = [ctypes.c_int], None
            set_level(level)
            return True
    return False
