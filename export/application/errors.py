"""Errors of steps that run as child processes."""

from pathlib import Path

from keras_retrieval.errors import RetrievalError


class StepFailedError(RetrievalError, RuntimeError):
    """A step that ran as a child process failed. The message is the step's own, with the path of its log.

    Args:
        message: the message.
        reason: the step's own message, without the path of the log.
        log: the log of the child process.
    """

    def __init__(self, message: str, reason: str, log: Path) -> None:
        super().__init__(message)
        self.reason, self.log = reason, log


class StepStoppedError(RetrievalError, RuntimeError):
    """A step that ran as a child process was stopped by the process that had started it."""
