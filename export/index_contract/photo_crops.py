"""Crops of photos in an index: how many rows each photo has, and where each row is in its photo."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras_retrieval.errors import ArgumentError
from keras_retrieval.ranking.rows import first_rows, ranges


@dataclass(frozen=True)
class PhotoCrops:
    """The crops of n photos with R rows in all. The rows of a photo follow each other, that of the whole photo first.

    Attributes:
        counts: the number of rows of each photo, (n,) int64, at least 1.
        boxes: the box of each row, (R, 4) float32: left, top, right and bottom in pixels of the upright photo.
    """

    counts: np.ndarray
    boxes: np.ndarray

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row of each photo, (n,) int64."""
        return first_rows(self.counts)

    @cached_property
    def photo_of(self) -> np.ndarray:
        """The number of the photo of each row, (R,) int64."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def rows_of(self, photos: np.ndarray) -> np.ndarray:
        """Returns the numbers of all rows of the photos with the numbers `photos`, (n,), one photo after another."""
        starts = self.starts[photos]
        return ranges(starts, starts + self.counts[photos])

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


def photo_blocks(
    blocks: Iterable[np.ndarray], crops: PhotoCrops | None
) -> Iterator[tuple[slice, np.ndarray, PhotoCrops | None]]:
    """Yields some photos at a time with all their rows; rows of a photo that two blocks share are put together.

    Args:
        blocks: the rows of all photos, arrays (n, D).
        crops: the crops of the photos; None for one row per photo.

    Yields:
        The places of the photos among all, their rows, and their crops or None.
    """
    start = 0
    if crops is None:
        for rows in blocks:
            yield slice(start, start + len(rows)), rows, None
            start += len(rows)
        return
    ends, first, rest = crops.starts + crops.counts, 0, list[np.ndarray]()
    for block in blocks:
        rows = np.concatenate([*rest, block])
        end = int(np.searchsorted(ends, first + len(rows), side="right"))
        count = int(ends[end - 1]) - first if end > start else 0
        if count:
            yield slice(start, end), rows[:count], crops.part(start, end)
        rest, start, first = [rows[count:]], end, first + count


def box_text(box: np.ndarray) -> str:
    """Returns a box (4,) as text, left,top,right,bottom in whole pixels, as the option --box of `search` takes it."""
    return ",".join(str(round(float(side))) for side in box)
