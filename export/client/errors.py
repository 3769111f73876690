"""Errors that a client raises.

    RetrievalError
        MissingPhotoError(FileNotFoundError)     a photo to send does not exist
        ServerUnavailableError(ConnectionError)  no connection, or the server is not ready, after all attempts
        ServerTimeoutError(TimeoutError)         no response before the deadline
        RequestRefusedError(ValueError)          the server rejects the request, as for an unknown model
        ResponseError(ValueError)                the response does not match the request

A photo that the server cannot read is a `PhotoError`, as in all other steps.
"""

from keras_retrieval.errors import RetrievalError


class MissingPhotoError(RetrievalError, FileNotFoundError):
    """A photo to send does not exist."""


class ServerUnavailableError(RetrievalError, ConnectionError):
    """The server cannot be reached, or is not ready."""


class ServerTimeoutError(RetrievalError, TimeoutError):
    """The server did not answer before the deadline."""


class RequestRefusedError(RetrievalError, ValueError):
    """The server rejected a request; the message gives the status code and the server's own message."""


class ResponseError(RetrievalError, ValueError):
    """The tensors of a response do not have the shapes that the request implies."""
