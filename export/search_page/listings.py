"""Listings of photos: filtered, sorted, and with one photo in place of each stack; the latest ones are kept."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import numpy as np

from .catalogue import Catalogue
from .filters import PhotoFilter
from .stacks import Stacks

KEPT = 16  # listings: those of a few open pages

Order = Literal["name", "time", "time-desc"]


@dataclass(frozen=True)
class Listing:
    """Photos in the order in which a page shows them.

    Attributes:
        rows: row numbers of the n photos in the catalogue, (n,).
        counts: number of listed photos of the stack that each photo represents, (n,); 1 for photos without a stack.
    """

    rows: np.ndarray
    counts: np.ndarray

    def place_of(self, row: int, stacks: Stacks) -> int | None:
        """Finds the place of a photo, or of the photo that represents its stack.

        Returns:
            The place, from 0; None if neither is listed.
        """
        found = np.flatnonzero(self.rows == row)
        if not len(found) and stacks.number[row] >= 0:
            found = np.flatnonzero(stacks.number[self.rows] == stacks.number[row])
        return int(found[0]) if len(found) else None


class Listings:
    """Makes listings, and keeps the latest. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[tuple[object, ...], Listing] = OrderedDict()

    def listing(
        self, catalogue: Catalogue, stacks: Stacks, photos: PhotoFilter, order: Order, stacked: bool, member: int | None
    ) -> Listing:
        """Lists photos.

        Args:
            catalogue: the photos.
            stacks: stacks of the same photos.
            photos: filter.
            order: "name" (natural order), "time", or "time-desc". Photos without a time come last.
            stacked: whether each stack is represented by the first of its listed photos.
            member: row number of a photo to whose stack the listing is restricted; None for all photos.

        Raises:
            BadRequestError: the filter names an unknown column.
        """
        key = (
            catalogue.version,
            stacks.version if stacked or member is not None else "",
            photos,
            order,
            stacked,
            member,
        )
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = _listing(catalogue, stacks, photos, order, stacked, member)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made


def _listing(
    catalogue: Catalogue, stacks: Stacks, photos: PhotoFilter, order: Order, stacked: bool, member: int | None
) -> Listing:
    rows = photos.rows(catalogue)
    if member is not None:
        number = stacks.number[member]
        rows = rows[stacks.number[rows] == number] if number >= 0 else rows[rows == member]
    rows = sorted_rows(catalogue, rows, order)
    counts = np.ones(len(rows), np.int64)
    if stacked and len(rows):
        numbers = stacks.number[rows]
        _, first, inverse, sizes = np.unique(
            np.where(numbers < 0, -1 - rows, numbers), return_index=True, return_inverse=True, return_counts=True
        )
        kept = np.sort(first)
        rows, counts = rows[kept], sizes[inverse[kept]]
    return Listing(rows, counts)


def sorted_rows(catalogue: Catalogue, rows: np.ndarray, order: Order) -> np.ndarray:
    """Sorts ascending row numbers by name or time; photos of equal time are in natural order, those without last."""
    if order == "name":
        return rows
    times = catalogue.times[rows]
    return rows[np.argsort(-times if order == "time-desc" else times, kind="stable")]
