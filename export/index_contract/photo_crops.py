"""Crops of photos in an index: how many rows each photo has, and where each row is in its photo."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_retrieval.errors import ArgumentError


@dataclass(frozen=True)
class PhotoCrops:
    """The crops of n photos with R rows in all. The rows of a photo follow each other, that of the whole photo first.

    Attributes:
        counts: the number of rows of each photo, (n,) int64, at least 1.
        boxes: the box of each row, (R, 4) float32: left, top, right and bottom in pixels of the upright photo.
    """

    counts: np.ndarray
    boxes: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """The first row of each photo, (n,) int64."""
        return first_rows(self.counts)

    def check(self, names: Sequence[str], rows: np.ndarray) -> None:
        """Checks that the crops fit photos and rows.

        Args:
            names: names of the photos.
            rows: descriptors, expected to have R rows.

        Raises:
            ArgumentError: a number differs, a photo has no row, or a box is not finite or empty.
        """
        if self.counts.shape != (len(names),):
            raise ArgumentError(f"got {len(names)} names and the counts of {len(self.counts)} photos")
        if (self.counts < 1).any():
            raise ArgumentError(f"photo {int(np.argmin(self.counts))} has no row")
        if self.counts.sum() != len(rows) or self.boxes.shape != (len(rows), 4):
            raise ArgumentError(
                f"got {len(rows)} rows, counts of {self.counts.sum()} rows and boxes of the shape {self.boxes.shape}"
            )
        left, top, right, bottom = self.boxes.T
        bad = np.flatnonzero(~(np.isfinite(self.boxes).all(axis=1) & (right > left) & (bottom > top)))
        if len(bad):
            raise ArgumentError(f"row {bad[0]}: the box {self.boxes[bad[0]].tolist()} is empty")

    def part(self, start: int, stop: int) -> "PhotoCrops":
        """Returns the crops of the photos from `start` to before `stop`."""
        first = int(self.counts[:start].sum())
        last = first + int(self.counts[start:stop].sum())
        return PhotoCrops(self.counts[start:stop], self.boxes[first:last])


def first_rows(counts: np.ndarray) -> np.ndarray:
    """Returns the first row of each photo, (n,) int64, from their numbers of rows (n,)."""
    return np.cumsum(counts, dtype=np.int64) - counts


def rows_of(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Lists the rows of photos, (R,) int64.

    Args:
        starts: the first row of each photo, (n,).
        counts: the number of rows of each photo, (n,).
    """
    return np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(starts - first_rows(counts), counts)


def box_text(box: np.ndarray) -> str:
    """Returns a box (4,) as text, left,top,right,bottom in whole pixels, as the option --box of `search` takes it."""
    return ",".join(str(round(float(side))) for side in box)
