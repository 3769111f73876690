"""Stores the descriptors that the network in training computes of photos, from one mining to the next."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.ranking.rows import PickedRows

from ..descriptors.describer import NO_DESCRIPTOR, DescribeFn, describe_photos
from ..files.arrays import FileRows
from ..files.machine import cores
from ..files.progress import progress
from ..photos.cache import PhotoSource
from ..photos.reader import PhotoError
from ..photos.reading import Shape
from .workers import ALONE, Workers

WIDE = 4096
"""Number of dimensions above which descriptors are stored as float16 in a temporary file, mapped into memory."""

_PIECE = 1024  # number of rows that are copied at a time


class PhotoDescriptors:
    """Computes and stores the D-dimensional descriptors of some of the photos of the training tuples.

    A photo is identified by its row number, its index in the list of all photos. Descriptors are stored in memory as
    float32: 22,000 descriptors with 2,048 dimensions take 180 MB. Descriptors with more than 4,096 dimensions are
    stored as float16 in an unnamed file in the folder of temporary files (environment variable TMPDIR), where 22,000
    descriptors with 32,768 dimensions take 1.4 GB.

    Args:
        photos: reader of the photos' pixels.
        names: names of all photos; a row number is an index into `names`.
        workers: the processes that train together. Each describes its share of the photos, and all get all descriptors.

    Attributes:
        left_out: dict from the name of each photo that could not be read or described since the last `keep` to the
            reason.
        described: number of photos that were described since the last `keep`.
    """

    def __init__(self, photos: PhotoSource, names: Sequence[str], workers: Workers = ALONE) -> None:
        self.photos = photos
        self.workers = workers
        self.names = names
        self.left_out: dict[str, str] = {}
        self.described = 0
        self._slot = np.full(len(names), -1)
        self._rows = np.zeros(0, np.int64)  # row number in each slot; -1 for a free slot
        self._ages = np.zeros(0, np.int64)  # time stamp of each descriptor, greater for newer ones
        self._values: np.ndarray = np.zeros((0, 0), np.float32)
        self._file: Any = None  # the temporary file, if descriptors are wide
        self._in_file: FileRows | None = None

    def __len__(self) -> int:
        return int(np.count_nonzero(self._rows >= 0))

    @property
    def useless(self) -> int:
        """Number of photos that were left out because their descriptors are zero or not finite."""
        return list(self.left_out.values()).count(NO_DESCRIPTOR)

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Returns an (n,) bool mask: whether each photo, given by its row number, has a stored descriptor."""
        return self._slot[rows] >= 0

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Returns the (n, D) float32 descriptors of photos, given by row number; all photos must have one."""
        return np.asarray(self._values[self._slot[rows]], np.float32)

    def picked(self, rows: np.ndarray) -> np.ndarray | PickedRows:
        """Returns the same descriptors as `of`; those in the temporary file are read only when they are used.

        For descriptors in the temporary file the result is a `PickedRows`, which reads them piece by piece.
        """
        return self.of(rows) if self._file is None else PickedRows(self._values, self._slot[rows])

    def oldest(self, count: int) -> np.ndarray:
        """Returns the row numbers of the `count` photos with the oldest descriptors; fewer if fewer photos have one."""
        used = np.flatnonzero(self._rows >= 0)
        rows = self._rows[used]
        return rows[np.lexsort((rows, self._ages[used]))[:count]]

    def keep(self, rows: np.ndarray) -> None:
        """Removes all descriptors except those of the photos with the given row numbers, (n,).

        The attribute `left_out` becomes empty, and `described` becomes 0.
        """
        removed = (self._rows >= 0) & ~np.isin(self._rows, rows)
        self._slot[self._rows[removed]] = -1
        self._rows[removed] = -1
        self.left_out, self.described = {}, 0

    def put(self, rows: np.ndarray, values: np.ndarray, age: int | None = None) -> None:
        """Stores descriptors of photos; descriptors that the photos already have are replaced.

        Args:
            rows: (n,) row numbers of the photos. If a row number occurs twice, its last descriptor is stored.
            values: (n, D) descriptors.
            age: time stamp of the descriptors, greater for newer ones; None makes them the newest of all.
        """
        rows, last = np.unique(rows[::-1], return_index=True)
        values = values[::-1][last]
        new = rows[~self.has(rows)]
        free = self._room(len(new), values.shape[1])
        self._slot[new], self._rows[free] = free, new
        slots = self._slot[rows]
        if self._in_file is None:
            self._values[slots] = values
        else:
            self._in_file.write(slots, values)
        self._ages[slots] = self._now() if age is None else age

    def describe(self, describe: DescribeFn, rows: np.ndarray) -> int:
        """Computes and stores descriptors of photos, in batches of photos of the same shape.

        Photos that cannot be read, or whose descriptors are zero or not finite, are added to `left_out`.

        Args:
            describe: function from photos (B, H, W, 3) uint8 to descriptors (B, D), which `describer` makes.
            rows: (n,) row numbers of the photos, without duplicates.

        Returns:
            The number of photos whose descriptors were stored.
        """
        shapes, now, described = self.workers.share(sorted(self._shapes(rows))), self._now(), list[int]()
        left_out: dict[str, str] = {}
        with progress("mining", len(shapes)) as advance:
            for batch in describe_photos(describe, shapes, lambda row: self.photos.read(self.names[row])):
                left_out |= {self.names[row]: reason for row, reason in batch.left_out.items()}
                if batch.keys:
                    if not described:  # reserves memory for all photos as soon as D is known
                        self._room(len(rows), batch.rows.shape[1])
                    self.put(np.array(batch.keys), batch.rows, now)
                    described += batch.keys
                advance(len(batch.keys) + len(batch.left_out))
        count = self._exchange(described, left_out, now)
        self.described += count
        return count

    def describe_missing(self, describe: DescribeFn, rows: np.ndarray) -> None:
        """Computes and stores the descriptors of the photos that have no descriptor and are not in `left_out`.

        Args:
            describe: function from photos to descriptors, as for the method `describe`.
            rows: (n,) row numbers of photos; those that already have a descriptor are skipped.
        """
        rows = np.unique(rows[~self.has(rows)])
        self.describe(describe, rows[[self.names[row] not in self.left_out for row in rows.tolist()]])

    def readable(self, rows: np.ndarray) -> np.ndarray:
        """Returns an (n,) bool mask of the photos, given by row number, whose size can be read from their headers.

        The other photos are added to `left_out`.
        """
        return np.isin(rows, [row for _, row in self._shapes(np.unique(rows))])

    def state(self) -> dict[str, np.ndarray]:
        """Returns all descriptors with their row numbers and ages as arrays, for a checkpoint and for `restore`.

        The arrays are not copied: they change when photos are described.
        """
        return {"rows": self._rows, "ages": self._ages, "values": self._values}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restores the descriptors and their ages from the arrays that `state` returned."""
        self.keep(np.zeros(0, np.int64))
        used = np.flatnonzero(state["rows"] >= 0)
        self._room(len(used), state["values"].shape[1])
        for start in range(0, len(used), _PIECE):
            part = used[start : start + _PIECE]
            rows = state["rows"][part]
            self.put(rows, state["values"][part])
            self._ages[self._slot[rows]] = state["ages"][part]

    def _exchange(self, described: list[int], left_out: dict[str, str], now: int) -> int:
        """Sends the descriptors of this process' photos to the others, and stores theirs, some at a time.

        Returns:
            The number of photos that all processes have described.
        """
        notes = self.workers.tell({"count": len(described), "left_out": left_out})
        for note in notes:
            self.left_out |= note["left_out"]
        counts = [note["count"] for note in notes]
        if self.workers.count > 1:
            for start in range(0, max(counts), _PIECE):
                rows = np.array(described[start : start + _PIECE], np.int64)
                values = self._values[self._slot[rows]] if len(rows) else np.zeros((0, 0), np.float32)
                for number, part in enumerate(self.workers.exchange({"rows": rows, "values": values})):
                    if number != self.workers.index and len(part["rows"]):
                        self.put(part["rows"], part["values"], now)
        return sum(counts)

    def _now(self) -> int:
        return int(self._ages[self._rows >= 0].max(initial=0)) + 1

    def _room(self, count: int, dimensions: int) -> np.ndarray:
        """Returns free slots for `count` descriptors; slots are added if there are too few."""
        missing = count - int(np.count_nonzero(self._rows < 0))
        if missing > 0:
            size = len(self._rows) + missing
            if dimensions > WIDE:
                self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115
                self._in_file = FileRows(self._file, Path(tempfile.gettempdir()), (size, dimensions), "f2")
                self._values = self._in_file.values
            else:
                more = np.zeros((missing, dimensions), np.float32)
                self._values = np.concatenate([self._values.reshape(-1, dimensions), more])
            self._rows = np.concatenate([self._rows, np.full(missing, -1)])
            self._ages = np.concatenate([self._ages, np.zeros(missing, np.int64)])
        return np.flatnonzero(self._rows < 0)[:count]

    def _shapes(self, rows: np.ndarray) -> list[tuple[Shape, int]]:
        """Returns (shape, row number) of photos whose headers can be read; the others are added to `left_out`."""
        with ThreadPoolExecutor(cores()) as pool:
            shapes = pool.map(self._shape, rows.tolist())
            return [(shape, row) for row, shape in zip(rows.tolist(), shapes, strict=True) if shape is not None]

    def _shape(self, row: int) -> Shape | None:
        name = self.names[row]
        try:
            return self.photos.shape(name)
        except PhotoError as error:
            self.left_out[name] = error.reason
            return None
