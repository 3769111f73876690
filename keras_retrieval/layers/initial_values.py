"""Random initial values of large weights, which are not drawn where the weights of a file replace them.

To draw those of a MegaLoc takes 2 s of processor time, three times the rest of its construction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_REPLACED: ContextVar[bool] = ContextVar("initial_values_replaced", default=False)


@contextmanager
def replaced_by_a_file() -> Iterator[None]:
    """Context manager in which layers are built whose weights are all set afterwards, from a file."""
    token = _REPLACED.set(True)
    try:
        yield
    finally:
        _REPLACED.reset(token)


def drawn(initializer: Any) -> Any:
    """Returns the initializer of a large weight: the given one, or "zeros" within `replaced_by_a_file`.

    Args:
        initializer: a keras.initializers.Initializer that draws random numbers, or its name.
    """
    return "zeros" if _REPLACED.get() else initializer
