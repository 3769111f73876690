"""The input of an index builder: names, descriptors and column values of photos, already checked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


class RowBlocks:
    """Rows in blocks that can be iterated more than once.

    Args:
        read: returns a new iterator over blocks (n, D) float32.
    """

    def __init__(self, read: Callable[[], Iterator[np.ndarray]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._read()


@dataclass(frozen=True)
class PhotosToIndex:
    """Photos from which an index is built.

    Attributes:
        names: the distinct names of the N photos.
        rows: the descriptors, finite, (N, D), or (N, S) if `reduced`.
        dimensions: S, the number of dimensions of a stored row.
        columns: column -> a value for each photo.
        projection: matrix (D, S) that reduces queries, and also rows unless `reduced`; None to store D dimensions.
        reduced: whether `rows` are already reduced.
    """

    names: Sequence[str]
    rows: RowBlocks
    dimensions: int
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    projection: np.ndarray | None = None
    reduced: bool = False

    def to_stored(self, rows: np.ndarray) -> np.ndarray:
        """Reduces rows taken from `self.rows` to stored rows (n, S), unless they need no reduction."""
        return rows if self.projection is None or self.reduced else rows @ self.projection
