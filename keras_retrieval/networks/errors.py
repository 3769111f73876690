"""Errors about files of networks and weights."""

from ..errors import RetrievalError


class NetworkFileError(RetrievalError, ValueError):
    """A file of a network does not exist or cannot be loaded."""


class WeightsError(RetrievalError, ValueError):
    """A file of weights cannot be read, or its layers do not match the trunk."""


class WeightsNotFoundError(RetrievalError, FileNotFoundError):
    """A file of weights does not exist."""


class DownloadError(RetrievalError, ConnectionError):
    """Pretrained weights could not be downloaded."""
