"""The errors of keras-retrieval. All derive from `RetrievalError` and from the built-in exception of their kind.

    RetrievalError
        ArgumentError(ValueError)       an argument is out of range or does not fit the others
        MissingExtraError(ImportError)  a package of an extra is not installed; the message contains the pip command

The packages define further errors below `RetrievalError`, such as `FolderError` and `PhotoError`.
"""


class RetrievalError(Exception):
    """Base of all errors that keras-retrieval raises. The message is one sentence for the user."""


class ArgumentError(RetrievalError, ValueError):
    """An argument is out of range or does not fit the others.

    The message names an argument as its first word ("levels must be at least 1, got 0") or with a value ("give
    weights=None"). On the command line these become options: "--levels must be ..", "give --weights none".
    """


class MissingExtraError(RetrievalError, ImportError):
    """A package that belongs to an extra is not installed or cannot be imported."""


def missing_extra(package: str, extra: str, error: ImportError | None = None) -> MissingExtraError:
    """Makes the error for a package that cannot be imported.

    Args:
        package: the name of the package in the message, such as "ScaNN".
        extra: the extra of keras-retrieval that installs it.
        error: the ImportError of Python, which distinguishes a missing package from a broken one.

    Returns:
        The error to raise; its message contains the pip command.
    """
    broken = error is not None and not isinstance(error, ModuleNotFoundError)
    problem = f"cannot be imported ({error})" if broken else "is not installed"
    return MissingExtraError(f'{package} {problem}: pip install "keras-retrieval[{extra}]"')
