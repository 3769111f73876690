"""The input from which an index is built: names, descriptors and column values of photos, already checked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .photo_crops import PhotoCrops


class RowBlocks:
    """An iterable of blocks of descriptors that, unlike a generator, can be iterated more than once.

    Args:
        read: function that returns a new iterator over all blocks, each (n, D) float32.
    """

    def __init__(self, read: Callable[[], Iterator[np.ndarray]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._read()


@dataclass(frozen=True)
class PhotosToIndex:
    """The photos from which an index is built. Their descriptors have D dimensions, stored descriptors S.

    Attributes:
        names: distinct names of the N photos.
        rows: finite descriptors in blocks, (N, D) in all, or stored descriptors (N, S) if `reduced` is true.
        dimensions: S, the number of dimensions of a stored descriptor.
        columns: one value per photo for each column, by column name.
        projection: matrix (D, S) that reduces queries, and descriptors before they are stored; None if S = D.
        reduced: whether `rows` already have S dimensions.
        crops: the crops of the photos, whose `rows` are then R in all; None for one row per photo.
    """

    names: Sequence[str]
    rows: RowBlocks
    dimensions: int
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    projection: np.ndarray | None = None
    reduced: bool = False
    crops: PhotoCrops | None = None

    @property
    def row_count(self) -> int:
        """The number of rows: N, or with crops R."""
        return len(self.names) if self.crops is None else len(self.crops.boxes)

    def to_stored(self, rows: np.ndarray) -> np.ndarray:
        """Reduces descriptors from `rows`, (n, D), to stored descriptors (n, S); (n, S) are returned unchanged."""
        return rows if self.projection is None or self.reduced else rows @ self.projection
