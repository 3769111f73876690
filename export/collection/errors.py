"""Errors of collections of photos."""

from keras_retrieval.errors import RetrievalError


class StateError(RetrievalError, OSError):
    """A state folder cannot be used: it cannot be written, or it contains something else."""


class StateBusyError(RetrievalError, OSError):
    """Another process uses the state folder. The message has the address of its page if it shows one."""


class StoppedError(RetrievalError):
    """An update was stopped by `Collection.close`; what was described until then is in the index."""
