"""What a search needs of an index, whatever holds the descriptors: `open_index(PLACE)`.

An index knows photos by name. There are two kinds: a folder that `keras-retrieval index` wrote (ScaNN) and a
collection of a Milvus server, `milvus://HOST:PORT/COLLECTION`. Both promise the same:

- `search` answers min(k, photos that match) hits a query, best first, never padded; scores are inner products with
  the stored descriptors. `exact` looks at every photo, else the kind's approximate search may miss some.
- `add` and `delete` return when the change is on disk and every later search sees it.
- Wrong input is a ValueError that names the rows or the argument, and changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

PHOTO = "photo"  # where a column stands for the photos' names


@dataclass(frozen=True)
class Hits:
    """The neighbours of one query, best first.

    Attributes:
        names: of the photos.
        scores: (n,) float32, their inner products with the query.
    """

    names: list[str]
    scores: np.ndarray


@dataclass(frozen=True)
class Filter:
    """Which photos a search may find: those that pass every condition that is given.

    Attributes:
        names: the photo is one of these.
        columns: column -> texts; the photo's value in that column is one of these. All values are texts, and a
            photo that was added without a value has the empty text.
    """

    names: Collection[str] | None = None
    columns: Mapping[str, Collection[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, values in {"names": self.names, **self.columns}.items():
            if isinstance(values, str):
                raise ValueError(f"{what} are several texts, as in [{values!r}], not one")


class NeighbourIndex(Protocol):
    """An index that is open. N photos, D dimensions of a descriptor, S of a stored one (D unless it was shortened)."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the descriptors were made with and how they are kept, JSON.

        What `photos.MADE_WITH` names, as `extract` wrote it, dimensions (D) and configuration (its "kind" says in
        words how the index searches).
        """
        ...

    @property
    def names(self) -> Sequence[str]:
        """Of all photos, in the order of `vectors()`."""
        ...

    def __len__(self) -> int: ...

    def search(
        self, queries: np.ndarray, k: int = 10, *, exact: bool = False, where: Filter | None = None
    ) -> list[Hits]:
        """The nearest photos of each query by inner product.

        Args:
            queries: (Q, D), or (Q, S) as `vectors` gives them. Q may be 0.
            k: how many.
            exact: look at every photo.
            where: only photos that pass; None for all.

        Returns:
            Of each query min(k, photos that pass) hits.

        Raises:
            ValueError: k < 1, queries of another shape or not finite, a column that the index has not.
        """
        ...

    def add(self, names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sequence[str]] | None = None) -> None:
        """Adds photos; one whose name the index knows is replaced, its values too.

        Args:
            names: of the photos, any text, each once.
            rows: (n, D), or (n, S) as `vectors` gives them.
            columns: column -> a value for each photo; the index's own columns, all or some.

        Raises:
            ValueError: shapes that do not fit, a name twice, a column that the index has not, rows that are not
                finite; the message names the first rows.
            OSError: nothing was added: the disk or the server failed, or another process writes.
        """
        ...

    def delete(self, names: Sequence[str]) -> int:
        """Takes photos away; how many there were of these. Unknown names are no error."""
        ...

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Stored descriptors, (n, S) float32: of these photos, or of all; mapped from the disk where that can be.

        Raises:
            ValueError: a name that the index has not.
        """
        ...

    def close(self) -> None:
        """Lets go of files and connections. Nothing is lost without it."""
        ...
