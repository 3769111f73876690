"""The input of an index builder: names, descriptors and column values of photos, checked by its maker."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


class RowBlocks:
    """Rows in blocks, which can be iterated more than once.

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
        names: (N,) distinct.
        rows: (N, D) finite; (N, S) if `reduced`.
        dimensions: S, of the stored rows.
        columns: column -> a value for each photo.
        projection: (D, S), which reduces queries, and rows unless `reduced`; None to store D dimensions.
        reduced: whether `rows` are reduced already.
    """

    names: Sequence[str]
    rows: RowBlocks
    dimensions: int
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    projection: np.ndarray | None = None
    reduced: bool = False

    def to_stored(self, rows: np.ndarray) -> np.ndarray:
        """Applies the projection to rows of `self.rows`: (n, D) -> (n, S)."""
        return rows if self.projection is None or self.reduced else rows @ self.projection
