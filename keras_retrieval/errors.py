"""The errors of keras-retrieval. Each derives from `RetrievalError` and from a built-in exception such as ValueError.

    RetrievalError
        ArgumentError(ValueError)       an argument is out of range or contradicts another argument
        MissingExtraError(ImportError)  a package of an extra is not installed; the message contains the pip command

The sub-packages define further errors that derive from `RetrievalError`, such as `FolderError` and `PhotoError`.
"""


def printable(text: str) -> str:
    """Returns a text for a message, with escapes in place of control characters and of bytes that are not UTF-8."""
    return "".join(
        mark if mark.isprintable() or mark == " " else mark.encode("unicode_escape").decode() for mark in text
    )


def first_line(error: Exception) -> str:
    """Returns the first line of an error of another package, or the name of its class if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def class_and_text(error: Exception) -> str:
    """Returns an error as "KeyError: 'weights'", one line of at most 200 characters, without what could not be decoded.

    The `repr` of an error of decoding has all bytes of a file.
    """
    return f"{type(error).__name__}: {first_line(error)}"[:200]


class RetrievalError(Exception):
    """Base class of all errors that keras-retrieval defines.

    The message is a single line for the user: control characters, which names of files may contain, are escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class ArgumentError(RetrievalError, ValueError):
    """An argument is out of range or contradicts another argument.

    The message names a Python argument, either as its first word ("levels must be at least 1, got 0") or with a value
    ("give weights=None"). On the command line, the argument is replaced by the option of the same name: "--levels must
    be at least 1, got 0", "give --weights none".
    """


class MissingExtraError(RetrievalError, ImportError):
    """A package of an extra (an optional dependency of keras-retrieval) is not installed or cannot be imported."""


def missing_extra(package: str, extra: str, error: ImportError | None = None) -> MissingExtraError:
    """Makes the error for an optional package that cannot be imported.

    Args:
        package: the name of the package as the message should show it, such as "ScaNN".
        extra: the extra of keras-retrieval that installs the package, such as "index".
        error: the ImportError that was caught. With None or a ModuleNotFoundError the message is that the package is
            not installed; with another ImportError, that it cannot be imported, followed by the text of that error.

    Returns:
        The error, for the caller to raise. Its message contains the pip command that installs the extra.
    """
    broken = error is not None and not isinstance(error, ModuleNotFoundError)
    problem = f"cannot be imported ({error})" if broken else "is not installed"
    return MissingExtraError(f'{package} {problem}: pip install "keras-retrieval[{extra}]"')
