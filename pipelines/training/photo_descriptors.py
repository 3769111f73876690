"""Descriptors of photos by the network in training, kept from one mining to the next."""

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
"""Descriptors of more dimensions are kept as float16 in a temporary file that is mapped into memory."""

_PIECE = 1024  # rows that are copied at a time


class PhotoDescriptors:
    """Descriptors (n, D) float32 of some of the photos, by row; 22,000 of 2,048 dimensions take 180 MB.

    Descriptors of more than WIDE dimensions are kept as float16 in an unnamed file in the folder of temporary files
    (the environment variable TMPDIR): 22,000 of 32,768 dimensions take 1.4 GB there.

    Args:
        photos: read the pixels.
        names: the names of all photos; a row is an index into them.

    Attributes:
        left_out: name -> reason, of the photos that could not be read or described since the last `keep`.
        described: number of photos that were described since the last `keep`.
    """

    def __init__(self, photos: PhotoSource, names: Sequence[str]) -> None:
        self.photos = photos
        self.names = names
        self.left_out: dict[str, str] = {}
        self.described = 0
        self._slot = np.full(len(names), -1)
        self._rows = np.zeros(0, np.int64)  # of each slot; -1 for a free slot
        self._ages = np.zeros(0, np.int64)  # of each slot, greater for descriptors that are newer
        self._values: np.ndarray = np.zeros((0, 0), np.float32)
        self._file: Any = None  # of wide values

    def __len__(self) -> int:
        return int(np.count_nonzero(self._rows >= 0))

    @property
    def useless(self) -> int:
        """Number of photos that are left out because their descriptors are zero or not finite."""
        return list(self.left_out.values()).count(NO_DESCRIPTOR)

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Whether each row has a descriptor, (n,) bool."""
        return self._slot[rows] >= 0

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The descriptors of rows that have one, (n, D) float32."""
        return np.asarray(self._values[self._slot[rows]], np.float32)

    def picked(self, rows: np.ndarray) -> np.ndarray | PickedRows:
        """Like `of`, but descriptors in the file are read from it piece by piece when they are used."""
        return self.of(rows) if self._file is None else PickedRows(self._values, self._slot[rows])

    def oldest(self, count: int) -> np.ndarray:
        """The rows with the oldest descriptors, `count` of them."""
        used = np.flatnonzero(self._rows >= 0)
        rows = self._rows[used]
        return rows[np.lexsort((rows, self._ages[used]))[:count]]

    def keep(self, rows: np.ndarray) -> None:
        """Removes the descriptors of all rows but these, and clears `left_out` and `described`."""
        removed = (self._rows >= 0) & ~np.isin(self._rows, rows)
        self._slot[self._rows[removed]] = -1
        self._rows[removed] = -1
        self.left_out, self.described = {}, 0

    def put(self, rows: np.ndarray, values: np.ndarray, age: int | None = None) -> None:
        """Sets the descriptors of rows; of a row that is given twice, the last one counts.

        Args:
            rows: (n,).
            values: (n, D).
            age: the age of the descriptors; newer than all others if not given.
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
        """Describes photos, those of one shape together; photos that cannot be described are added to `left_out`.

        Args:
            describe: the function from `describer`, (B, H, W, 3) uint8 -> (B, D).
            rows: the rows of the photos, each once.

        Returns:
            How many have been described.
        """
        shapes, now, described = self._shapes(rows), self._now(), 0
        with progress("mining", len(shapes)) as advance:
            for batch in describe_photos(describe, sorted(shapes), lambda row: self.photos.read(self.names[row])):
                self.left_out |= {self.names[row]: reason for row, reason in batch.left_out.items()}
                if batch.keys:
                    if not described:  # room for all, as soon as the dimensions are known
                        self._room(len(rows), batch.rows.shape[1])
                    self.put(np.array(batch.keys), batch.rows, now)
                    described += len(batch.keys)
                advance(len(batch.keys) + len(batch.left_out))
        self.described += described
        return described

    def describe_missing(self, describe: DescribeFn, rows: np.ndarray) -> None:
        """Describes those of the rows that have no descriptor and are not left out."""
        rows = np.unique(rows[~self.has(rows)])
        self.describe(describe, rows[[self.names[row] not in self.left_out for row in rows.tolist()]])

    def readable(self, rows: np.ndarray) -> np.ndarray:
        """Whether each row is a photo with a readable header, (n,) bool; the others are added to `left_out`."""
        return np.isin(rows, [row for _, row in self._shapes(np.unique(rows))])

    def state(self) -> dict[str, np.ndarray]:
        """The arrays that `restore` takes; they are not copied, and change with the next description."""
        return {"rows": self._rows, "ages": self._ages, "values": self._values}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restores a `state`: the same descriptors with the same ages."""
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
        """Free slots for `count` rows; slots are added if there are too few."""
        missing = count - int(np.count_nonzero(self._rows < 0))
        if missing > 0:
            size = len(self._rows) + missing
            if dimensions > WIDE:
                self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115
                self._values = np.memmap(self._file, "f2", "r+", shape=(size, dimensions))
            else:
                more = np.zeros((missing, dimensions), np.float32)
                self._values = np.concatenate([self._values.reshape(-1, dimensions), more])
            self._rows = np.concatenate([self._rows, np.full(missing, -1)])
            self._ages = np.concatenate([self._ages, np.zeros(missing, np.int64)])
        return np.flatnonzero(self._rows < 0)[:count]

    def _shapes(self, rows: np.ndarray) -> list[tuple[Shape, int]]:
        """(shape, row) of the photos with a readable header; the others are added to `left_out`."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            shapes = pool.map(self._shape, rows.tolist())
            return [(shape, row) for row, shape in zip(rows.tolist(), shapes, strict=True) if shape is not None]

    def _shape(self, row: int) -> Shape | None:
        name = self.names[row]
        try:
            return self.photos.shape(name)
        except PhotoError as error:
            self.left_out[name] = error.reason
            return None
