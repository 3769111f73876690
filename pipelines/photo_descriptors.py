"""The descriptors that negatives are chosen by, held in memory by the photos' rows while a network learns."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .describe import Describe, Shape, describe_photos
from .images import PhotoError
from .photo_cache import Photos
from .progress import progress


class PhotoDescriptors:
    """Descriptors of some of the photos, (n, D) float32: 22,000 of 512 dimensions take 45 MB, of 2,048 180 MB.

    Args:
        photos: that are described.
        names: of all photos; a row is an index into them.

    Attributes:
        left_out: name -> reason, of the photos that could not be described or read.
    """

    def __init__(self, photos: Photos, names: Sequence[str]) -> None:
        self.photos = photos
        self.names = names
        self.left_out: dict[str, str] = {}
        self._slot = np.full(len(names), -1)
        self._rows = np.zeros(0, np.int64)
        self._ages = np.zeros(0, np.int64)  # the greater, the later it was described
        self._values = np.zeros((0, 0), np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Which of the rows have a descriptor."""
        return self._slot[rows] >= 0

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The descriptors of rows that have one, (n, D)."""
        return self._values[self._slot[rows]]

    def oldest(self, count: int) -> np.ndarray:
        """The rows that were described longest ago."""
        return self._rows[np.argsort(self._ages, kind="stable")[:count]]

    def keep(self, rows: np.ndarray) -> None:
        """Forgets all rows but these, and all reasons."""
        kept = np.isin(self._rows, rows)
        self._rows, self._ages, self._values = self._rows[kept], self._ages[kept], self._values[kept]
        self._slot[:] = -1
        self._slot[self._rows] = np.arange(len(self._rows))
        self.left_out = {}

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Sets descriptors (n, D), of rows that have one or that are new; of a row named twice the last counts."""
        rows, last = np.unique(rows[::-1], return_index=True)
        values = values[::-1][last]
        new = rows[~self.has(rows)]
        if len(new):
            self._slot[new] = np.arange(len(self._rows), len(self._rows) + len(new))
            room = np.zeros((len(new), values.shape[1]), np.float32)
            self._values = np.concatenate([self._values, room]) if len(self._rows) else room
            self._rows, self._ages = np.concatenate([self._rows, new]), np.concatenate([self._ages, new])
        self._values[self._slot[rows]] = values
        self._ages[self._slot[rows]] = self._ages.max(initial=0) + 1

    def describe(self, describe: Describe, rows: np.ndarray) -> int:
        """Describes photos, those of one shape together; what cannot be described is left out with the reason.

        Args:
            describe: from `describer`, (B, H, W, 3) uint8 -> (B, D).
            rows: of the photos, each once.

        Returns:
            How many have been described.
        """
        shapes = self.shapes(rows)
        found = []
        with progress("mining", len(shapes)) as advance:
            for batch in describe_photos(describe, sorted(shapes), lambda row: self.photos.read(self.names[row])):
                self.left_out |= {self.names[row]: reason for row, reason in batch.left_out.items()}
                found += [batch] if batch.keys else []
                advance(len(batch.keys) + len(batch.left_out))
        if found:
            described = np.array([row for batch in found for row in batch.keys])
            self.put(described, np.concatenate([batch.rows for batch in found]))
        return sum(len(batch.keys) for batch in found)

    def shapes(self, rows: np.ndarray) -> list[tuple[Shape, int]]:
        """(shape, row) of the photos that can be read, as far as their headers tell; the others are left out."""
        found = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for row, shape in zip(rows.tolist(), pool.map(self._shape, rows.tolist()), strict=True):
                if shape is not None:
                    found.append((shape, row))
        return found

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` takes: the rows with their descriptors and the order in which they were described."""
        return {"rows": self._rows, "ages": self._ages, "values": self._values}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Goes back to a `state`."""
        self._rows, self._ages, self._values = state["rows"], state["ages"], state["values"]
        self.keep(self._rows)

    def _shape(self, row: int) -> Shape | None:
        name = self.names[row]
        try:
            return self.photos.shape(name)
        except PhotoError as error:
            self.left_out[name] = error.reason
            return None
