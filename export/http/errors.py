"""Errors of the HTTP server.

RetrievalError
    ListenError(OSError)                   a port is in use, or the address is not one of this machine
    TokenError(ValueError)                 a file does not contain a token
    ClientGoneError(ConnectionError)       a client has disconnected before its request was complete
    HttpRefusalError                       an HTTP request is answered before it has been read completely
"""

from collections.abc import Mapping

from keras_retrieval.errors import RetrievalError


class ListenError(RetrievalError, OSError):
    """The server cannot listen on an address: the port is in use, or the address is not one of this machine."""


class TokenError(RetrievalError, ValueError):
    """The file of the option --token cannot be read, or does not contain a token."""


class ClientGoneError(RetrievalError, ConnectionError):
    """A client has disconnected before its request was complete."""


class HttpRefusalError(RetrievalError):
    """An HTTP request is refused before it has been read completely, such as one that is too large.

    Args:
        status: HTTP status of the response.
        reason: message that the client receives.
        headers: headers of the response, by name.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.headers = status, dict(headers or {})
