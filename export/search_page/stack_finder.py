"""Finds the stacks of a collection in the background, so that no request waits for them."""

from .catalogue import Catalogue
from .source import PhotoSource
from .stacks import Stacks


class StackFinder:
    """Finds the stacks of a collection in a thread of its own, again whenever the index has changed."""

    def __init__(self, source: PhotoSource) -> None:
        self._source = source

    def stacks(self, catalogue: Catalogue) -> Stacks:
        """Returns the latest stacks; starts to find them if the index has changed."""
        return Stacks.none(catalogue)

    def close(self) -> None:
        """Stops."""
