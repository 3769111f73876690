"""Stacks: groups of photos that are copies of each other or show the same object."""

from dataclasses import dataclass

import numpy as np

from .catalogue import Catalogue


@dataclass(frozen=True)
class Stacks:
    """The stacks of the N photos of a catalogue.

    Attributes:
        number: number of the stack of each photo, (N,) int64; -1 for photos without one.
        copies: whether all photos of a stack are copies of each other, bool by number of the stack.
        version: text that differs from that of other stacks.
    """

    number: np.ndarray
    copies: np.ndarray
    version: str

    @classmethod
    def none(cls, catalogue: Catalogue) -> "Stacks":
        """Makes the stacks of photos that are not in any."""
        return cls(np.full(len(catalogue), -1, np.int64), np.zeros(0, bool), "")

    def __bool__(self) -> bool:
        return len(self.copies) > 0

    def facts(self, row: int, count: int) -> dict[str, object] | None:
        """Returns what the page shows of a photo's stack.

        Args:
            row: row number of the photo.
            count: number of the stack's photos in the listing.

        Returns:
            A dict with "count" and "kind" ("copies" or "object"); None if the photo is alone.
        """
        number = self.number[row]
        if number < 0 or count < 2:
            return None
        return {"count": int(count), "kind": "copies" if self.copies[number] else "object"}
