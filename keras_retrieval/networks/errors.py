"""Errors about the files of networks and of weights."""

from ..errors import RetrievalError


class NetworkFileError(RetrievalError, ValueError):
    """The file of a network does not exist or cannot be loaded."""


class WeightsError(RetrievalError, ValueError):
    """A weights file cannot be read, or its layers do not match those of the trunk."""


class WeightsNotFoundError(RetrievalError, FileNotFoundError):
    """A weights file does not exist."""


class DownloadError(RetrievalError, ConnectionError):
    """Pretrained weights could not be downloaded."""
