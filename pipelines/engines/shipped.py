"""What a worker of a cluster runs first. It is sent by value, so that it also runs where this package is missing.

A worker of Dask that cannot unpickle a task ends, and so does the next one that gets the task. So a task is a string of
bytes and Python's own function that unpickles it, which calls `attempt_shipped`.
"""

from typing import Any


class Shipped:
    """A call of `attempt_shipped`, which is made where the object is unpickled, and whose result is unpickled from it.

    Args:
        version: as for `attempt_shipped`.
        packed: as for `attempt_shipped`.
    """

    def __init__(self, version: str, packed: bytes) -> None:
        self._arguments = version, packed

    def __reduce__(self) -> tuple[Any, tuple[str, bytes]]:
        return attempt_shipped, self._arguments


def attempt_shipped(version: str, packed: bytes) -> tuple[Any, str]:
    """Unpickles a function with its arguments and calls it, on a worker that has the right version of the package.

    Args:
        version: the version of this package in the process that began the run.
        packed: the pickle of the function and its arguments.

    Returns:
        What the function returns, None if it was not called, and the version of this package on the worker, "" if it
        has none.
    """
    import pickle
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        here = installed("keras-retrieval")
    except PackageNotFoundError:
        here = ""
    if here != version:
        return None, here
    function, arguments = pickle.loads(packed)
    return function(*arguments), here
