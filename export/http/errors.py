"""Errors of the HTTP server.

RetrievalError
    ListenError(OSError)                   a port is in use, or the address is not one of this machine
    HttpRefusalError                       an HTTP request is answered before it has been read completely
"""

from keras_retrieval.errors import RetrievalError


class ListenError(RetrievalError, OSError):
    """The server cannot listen on an address: the port is in use, or the address is not one of this machine."""


class HttpRefusalError(RetrievalError):
    """An HTTP request is refused before it has been read completely, such as one that is too large.

    Args:
        status: HTTP status of the response.
        reason: message that the client receives.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
