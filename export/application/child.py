"""The program of a child process: runs steps one after another, and ends when its parent ends.

    python -P -m keras_retrieval.export.application.child NICE '[["extract", "vgg.keras", ..], ["index", ..]]'

Its standard input is a pipe of which the parent has the other end. The pipe is closed when the parent ends, however it
ends, so that the whole process group of the child is killed then.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence


def run_steps(steps: Sequence[Sequence[str]]) -> int:
    """Runs steps of `keras-retrieval` in this process, until one fails.

    Args:
        steps: the arguments of each step, the first of them its name.

    Returns:
        The exit status of the last step that was run.
    """
    from keras_retrieval.__main__ import main

    for arguments in steps:
        try:
            main(list(arguments))
        except SystemExit as end:
            if isinstance(end.code, int) and end.code:
                return end.code
            if end.code:
                sys.stdout.flush()
                sys.stderr.write(f"{end.code}\n")
                return 1
    return 0


def end_with_parent(descriptor: int) -> None:
    """Starts a thread that kills the process group once the other end of a pipe is closed.

    Args:
        descriptor: the end of the pipe to read from.
    """

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name="end with parent").start()


if __name__ == "__main__":
    end_with_parent(sys.stdin.fileno())
    os.nice(int(sys.argv[1]))
    sys.exit(run_steps(json.loads(sys.argv[2])))
