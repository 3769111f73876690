"""Errors that a client raises.

    RetrievalError
        MissingPhotoError(FileNotFoundError)     a photo to send does not exist
        ServerUnavailableError(ConnectionError)  no connection, or the server is not ready, after all attempts
        ServerTimeoutError(TimeoutError)         no response before the time limit
        RequestRefusedError(ValueError)          the server rejects the request, for example for an unknown model
        ResponseError(ValueError)                the response does not match the request

If the server cannot read a photo, the client raises `PhotoError`, as all other steps do for such a photo.
"""

from keras_retrieval.errors import RetrievalError


class MissingPhotoError(RetrievalError, FileNotFoundError):
    """A photo file that the client was to send does not exist."""


class ServerUnavailableError(RetrievalError, ConnectionError):
    """The server cannot be reached or is not ready, after all attempts."""


class ServerTimeoutError(RetrievalError, TimeoutError):
    """The server did not answer before the client's time limit (`timeout`)."""


class RequestRefusedError(RetrievalError, ValueError):
    """The server rejected a request. The message contains the gRPC status code and the server's own message."""


class ResponseError(RetrievalError, ValueError):
    """The tensors of a response do not have the shapes that the request implies, such as one row per photo."""
