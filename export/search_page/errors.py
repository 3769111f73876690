"""Errors of the search page.

RetrievalError
    NotReadyError(RuntimeError)  photos cannot be searched yet, or no longer
    BadRequestError(ValueError)  a parameter or a field of a request is wrong
"""

from keras_retrieval.errors import RetrievalError


class NotReadyError(RetrievalError, RuntimeError):
    """Photos cannot be described or searched now. The message is a sentence for the user, with what to do."""


class BadRequestError(RetrievalError, ValueError):
    """A parameter or a field of a request is wrong. The message is a sentence that names it."""
