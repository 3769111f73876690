"""Errors that a server raises.

    RetrievalError
        ServingError                           a request or the loading of a model fails; has a code and a message
        ServerConfigError(ValueError)          a configuration file, a certificate or a folder of models cannot be used
            TextFormatError                    a configuration file is not of the expected message type
        MissingConfigError(FileNotFoundError)  a configuration file does not exist

Status codes are those of TensorFlow and gRPC. Messages are the same, word for word, as those of TensorFlow Serving in
the cases in which TensorFlow Serving has a message.
"""

from enum import IntEnum

from keras_retrieval.errors import RetrievalError

from ..http.messages import shortened

LONGEST_MESSAGE = 1024  # bytes of an error message in gRPC, which sends it in a header of limited size
NODE = "\n\t [["  # before the name of the operation in a message of TensorFlow


class Code(IntEnum):
    """The canonical status codes of requests, with the numbers that TensorFlow, gRPC and google.rpc share."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}  # HTTP status by status code; all other codes have 500


class ServingError(RetrievalError):
    """A request or the loading of a model failed.

    Args:
        code: canonical status code.
        message: message that the client receives.

    Attributes:
        code: canonical status code.
        message: complete message; see `details` for gRPC.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def details(self) -> bytes:
        """The message for gRPC, in UTF-8; one of over 1,024 bytes is cut and marked, as TensorFlow Serving does.

        A character may be cut, of which clients show a replacement character.
        """
        text = self.message.encode(errors="replace")
        return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + b"...TRUNCATED"

    @property
    def http_status(self) -> int:
        """The HTTP status of the REST response for this error."""
        return HTTP_STATUS.get(self.code, 500)


class ServerConfigError(RetrievalError, ValueError):
    """A configuration file, a certificate or a folder of models cannot be used."""


class TextFormatError(ServerConfigError):
    """A configuration file is not a protocol buffer of the expected type in text format."""


class MissingConfigError(RetrievalError, FileNotFoundError):
    """A configuration file does not exist."""


def invalid(message: str) -> ServingError:
    """Makes a ServingError with the code INVALID_ARGUMENT."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def as_serving_error(error: Exception) -> ServingError | None:
    """Converts an error of TensorFlow to a ServingError with the same status code.

    Before the name of the operation, its message is cut to LONGEST_ECHO bytes, because it may contain an input.

    Returns:
        The error itself if it is a ServingError; None if it has no status code, which indicates a bug in the server.
    """
    if isinstance(error, ServingError):
        return error
    code = getattr(error, "error_code", None)
    if code is None:
        return None
    message, *operations = (getattr(error, "message", "") or str(error)).split(NODE)
    return ServingError(Code(code), NODE.join([shortened(message), *operations]))
