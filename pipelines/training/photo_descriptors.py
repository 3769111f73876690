"""The descriptors that negatives are chosen by, held in memory by the photos' rows while a network learns."""

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_retrieval.ranking.rows import PickedRows

from ..descriptors.describer import NO_DESCRIPTOR, DescribeFn, describe_photos
from ..files.progress import progress
from ..photos.cache import PhotoSource
from ..photos.reader import PhotoError
from ..photos.reading import Shape

WIDE = 4096
"""Rows of more dimensions are kept in half precision in a temporary file, of which memory holds what it can spare."""

_PIECE = 1024  # rows that are copied at a time


class PhotoDescriptors:
    """Descriptors of some of the photos, (n, D) float32: 22,000 of 512 dimensions take 45 MB, of 2,048 180 MB.

    Rows of more than WIDE dimensions lie as float16 in an unnamed file in the system's folder of temporary files (the
    variable TMPDIR names another): 22,000 of 32,768 take 1.4 GB there, and in memory what is read at a time.

    Args:
        photos: that are described.
        names: of all photos; a row is an index into them.

    Attributes:
        left_out: name -> reason, of the photos that could not be described or read.
    """

    def __init__(self, photos: PhotoSource, names: Sequence[str]) -> None:
        self.photos = photos
        self.names = names
        self.left_out: dict[str, str] = {}
        self._slot = np.full(len(names), -1)
        self._rows = np.zeros(0, np.int64)  # of each slot, -1 where it is free
        self._ages = np.zeros(0, np.int64)  # the greater, the later it was described
        self._values: np.ndarray = np.zeros((0, 0), np.float32)
        self._file: Any = None  # of wide values

    def __len__(self) -> int:
        return int(np.count_nonzero(self._rows >= 0))

    @property
    def useless(self) -> int:
        """How many photos are left out since their descriptors are zero or not finite."""
        return list(self.left_out.values()).count(NO_DESCRIPTOR)

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Which of the rows have a descriptor."""
        return self._slot[rows] >= 0

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The descriptors of rows that have one, (n, D) float32."""
        return np.asarray(self._values[self._slot[rows]], np.float32)

    def many(self, rows: np.ndarray) -> np.ndarray | PickedRows:
        """The same for a whole pool: wide ones are read from the file when they are asked for."""
        return self.of(rows) if self._file is None else PickedRows(self._values, self._slot[rows])

    def oldest(self, count: int) -> np.ndarray:
        """The rows that were described longest ago."""
        used = np.flatnonzero(self._rows >= 0)
        rows = self._rows[used]
        return rows[np.lexsort((rows, self._ages[used]))[:count]]

    def keep(self, rows: np.ndarray) -> None:
        """Forgets all rows but these, and all reasons."""
        forgotten = (self._rows >= 0) & ~np.isin(self._rows, rows)
        self._slot[self._rows[forgotten]] = -1
        self._rows[forgotten] = -1
        self.left_out = {}

    def put(self, rows: np.ndarray, values: np.ndarray, age: int | None = None) -> None:
        """Sets descriptors (n, D), of rows that have one or that are new; of a row named twice the last counts.

        Args:
            rows: (n,).
            values: (n, D).
            age: when they were described; the latest if not given.
        """
        rows, last = np.unique(rows[::-1], return_index=True)
        values = values[::-1][last]
        new = rows[~self.has(rows)]
        free = self._room(len(new), values.shape[1])
        self._slot[new], self._rows[free] = free, new
        slots = self._slot[rows]
        self._values[slots] = values
        self._ages[slots] = self._now() if age is None else age

    def describe(self, describe: DescribeFn, rows: np.ndarray) -> int:
        """Describes photos, those of one shape together; what cannot be described is left out with the reason.

        Args:
            describe: from `describer`, (B, H, W, 3) uint8 -> (B, D).
            rows: of the photos, each once.

        Returns:
            How many have been described.
        """
        shapes, now, described = self.shapes(rows), self._now(), 0
        with progress("mining", len(shapes)) as advance:
            for batch in describe_photos(describe, sorted(shapes), lambda row: self.photos.read(self.names[row])):
                self.left_out |= {self.names[row]: reason for row, reason in batch.left_out.items()}
                if batch.keys:
                    if not described:  # for all at once, as soon as the dimensions are known
                        self._room(len(rows), batch.rows.shape[1])
                    self.put(np.array(batch.keys), batch.rows, now)
                    described += len(batch.keys)
                advance(len(batch.keys) + len(batch.left_out))
        return described

    def shapes(self, rows: np.ndarray) -> list[tuple[Shape, int]]:
        """(shape, row) of the photos that can be read, as far as their headers tell; the others are left out."""
        found = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for row, shape in zip(rows.tolist(), pool.map(self._shape, rows.tolist()), strict=True):
                if shape is not None:
                    found.append((shape, row))
        return found

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` takes: the rows with their descriptors and the order in which they were described.

        It is not copied, and changes with what is described next.
        """
        return {"rows": self._rows, "ages": self._ages, "values": self._values}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Goes back to a `state`."""
        self.keep(np.zeros(0, np.int64))
        used = np.flatnonzero(state["rows"] >= 0)
        self._room(len(used), state["values"].shape[1])
        for start in range(0, len(used), _PIECE):
            part = used[start : start + _PIECE]
            rows = state["rows"][part]
            self.put(rows, state["values"][part])
            self._ages[self._slot[rows]] = state["ages"][part]

    def _now(self) -> int:
        return int(self._ages[self._rows >= 0].max(initial=0)) + 1

    def _room(self, count: int, dimensions: int) -> np.ndarray:
        """Free slots for so many rows; where there are too few, more are made."""
        lack = count - int(np.count_nonzero(self._rows < 0))
        if lack > 0:
            size = len(self._rows) + lack
            if dimensions > WIDE:
                self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115
                self._values = np.memmap(self._file, "f2", "r+", shape=(size, dimensions))
            else:
                more = np.zeros((lack, dimensions), np.float32)
                self._values = np.concatenate([self._values.reshape(-1, dimensions), more])
            self._rows = np.concatenate([self._rows, np.full(lack, -1)])
            self._ages = np.concatenate([self._ages, np.zeros(lack, np.int64)])
        return np.flatnonzero(self._rows < 0)[:count]

    def _shape(self, row: int) -> Shape | None:
        name = self.names[row]
        try:
            return self.photos.shape(name)
        except PhotoError as error:
            self.left_out[name] = error.reason
            return None
