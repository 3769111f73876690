"""What goes wrong while serving, in the codes and words of TensorFlow Serving."""

from enum import IntEnum

LONGEST_MESSAGE = 1024  # characters that a gRPC answer carries; more would not fit into its headers


class Code(IntEnum):
    """Canonical codes: the same numbers in TensorFlow, gRPC and google.rpc."""

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
}  # every other code: 500


class ServingError(Exception):
    """A request, or the loading of a model, that was refused.

    Args:
        code: its canonical code.
        message: what a client is told.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def details(self) -> str:
        """The message as gRPC sends it: at most LONGEST_MESSAGE characters and a mark that more were cut."""
        return self.message if len(self.message) <= LONGEST_MESSAGE else self.message[:LONGEST_MESSAGE] + "...TRUNCATED"

    @property
    def http_status(self) -> int:
        """The status of the REST answer."""
        return HTTP_STATUS.get(self.code, 500)


def invalid(message: str) -> ServingError:
    """INVALID_ARGUMENT, the most frequent of all."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def known(error: Exception) -> ServingError | None:
    """The ServingError that an error stands for; None for a fault of ours, which nobody foresaw.

    TensorFlow's own errors carry their code and message.
    """
    if isinstance(error, ServingError):
        return error
    code = getattr(error, "error_code", None)
    return ServingError(Code(code), getattr(error, "message", "") or str(error)) if code is not None else None
