"""The errors of keras-retrieval. All descend from `RetrievalError`, and from the built-in error that fits.

    RetrievalError
        ArgumentError(ValueError)       an argument or option of a function is out of range or does not fit
        MissingExtraError(ImportError)  a package of an extra is not installed; the message holds the pip command

Rooms add their own below `RetrievalError`, such as `FolderError` and `PhotoError`.
"""


class RetrievalError(Exception):
    """The base of all errors that keras-retrieval raises on purpose. Its message is one sentence for the user."""


class ArgumentError(RetrievalError, ValueError):
    """An argument or option is out of range, or does not fit the others."""


class MissingExtraError(RetrievalError, ImportError):
    """A package that an extra installs is missing."""


def missing_extra(package: str, extra: str, error: ImportError | None = None) -> MissingExtraError:
    """Makes the error for a package that cannot be imported.

    Args:
        package: its name as users know it, such as "ScaNN".
        extra: the extra of keras-retrieval that installs it.
        error: what Python said; it tells a package that is missing from one that is broken.

    Returns:
        An error to raise, whose message holds the pip command.
    """
    broken = error is not None and not isinstance(error, ModuleNotFoundError)
    problem = f"cannot be imported ({error})" if broken else "is not installed"
    return MissingExtraError(f'{package} {problem}: pip install "keras-retrieval[{extra}]"')
