"""The interface that every index provides; `open_index(PLACE)` opens one.

An index identifies photos by name. An index is either a folder written by `keras-retrieval index` (ScaNN) or a
collection on a Milvus server, `milvus://HOST:PORT/COLLECTION`. Both guarantee:

- `search` returns min(k, number of matching photos) hits per query, best first, never padded. Scores are inner
  products with the stored descriptors. With `exact`, every photo is compared; otherwise an approximate search may miss
  some neighbours.
- `add` and `delete` return once the change is on disk; every later search sees it.
- Invalid input raises `ArgumentError`, a ValueError that names the rows or the argument, and changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from keras_retrieval.errors import ArgumentError

PHOTO_COLUMN = "photo"
"""The column of tables and the name in `--where` that stand for the photo's own name."""

DESCRIPTOR_FACTS = ("model", "size", "scales", "antialias", "mirror", "edges", "bfloat16", "exif", "max_pixels")
"""The settings of `extract` that a descriptor depends on; queries and added photos must have the same."""


@dataclass(frozen=True)
class Hits:
    """The neighbours of one query, best first.

    Attributes:
        names: names of the photos.
        scores: inner products of the photos with the query, (n,) float32.
    """

    names: list[str]
    scores: np.ndarray


@dataclass(frozen=True)
class Filter:
    """Restricts a search to the photos that satisfy every given condition.

    Attributes:
        names: names of the allowed photos; None for all.
        columns: column -> allowed values. Values are strings; a photo without a value has the empty string.

    Raises:
        ArgumentError: a single string is given instead of a collection of strings.
    """

    names: Collection[str] | None = None
    columns: Mapping[str, Collection[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label, values in {"names": self.names, **self.columns}.items():
            if isinstance(values, str):
                raise ArgumentError(f"{label} must be a collection of strings such as [{values!r}], got one string")


class NeighbourIndex(Protocol):
    """An open index of N photos.

    Descriptors have D dimensions, and stored descriptors S; S = D unless the index was built with `dim`.
    """

    @property
    def facts(self) -> Mapping[str, Any]:
        """Facts about the index, which can be serialized as JSON.

        The settings of `extract` (`DESCRIPTOR_FACTS`), "photos" (the photos' folder), "dimensions" (D), "columns" and
        "configuration" (how the index searches; its "kind" describes it in words).
        """
        ...

    @property
    def names(self) -> Sequence[str]:
        """The names of all photos, in the order of `vectors()`."""
        ...

    def __len__(self) -> int: ...

    def search(
        self, queries: np.ndarray, k: int = 10, *, exact: bool = False, where: Filter | None = None
    ) -> list[Hits]:
        """Finds the photos with the largest inner products with each query.

        Args:
            queries: descriptors (Q, D), or stored descriptors (Q, S) as returned by `vectors`; Q may be 0.
            k: number of neighbours per query.
            exact: whether to compare each query with every photo.
            where: filter that restricts the search; None for all photos.

        Returns:
            For each query, min(k, number of matching photos) hits.

        Raises:
            ArgumentError: `k` is below 1, queries have another shape or are not finite, or a column is unknown.
        """
        ...

    def add(self, names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sequence[str]] | None = None) -> None:
        """Adds photos. A photo whose name already exists is replaced, including its column values.

        Args:
            names: names of the photos, arbitrary distinct strings.
            rows: descriptors (n, D), or stored descriptors (n, S) as returned by `vectors`.
            columns: column -> a value for each photo, for some or all columns of the index.

        Raises:
            ArgumentError: shapes do not match, names are repeated, a column is unknown, or rows are not finite; the
                message names the first rows.
            OSError: the disk or the server failed, or another process is writing; nothing has been added.
        """
        ...

    def delete(self, names: Sequence[str]) -> int:
        """Deletes photos by name; returns the number deleted. Unknown names are ignored."""
        ...

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Returns the stored descriptors, (n, S) float32, of the named photos or of all; memory-mapped if possible.

        Raises:
            ArgumentError: a name is unknown.
        """
        ...

    def close(self) -> None:
        """Releases files and connections. Changes are on disk even without this call."""
        ...
