"""Errors about files that are read without executing anything in them."""

from ..errors import RetrievalError


class StoredWeightsError(RetrievalError, ValueError):
    """A file contains no weights that can be read; the message is the reason, without the path."""
