"""The interface that every index provides; `open_index(PLACE)` opens an index.

An index stores one descriptor per photo, or with crops several, and identifies photos by name. With crops
(`keras-retrieval extract --crops`), the best row of a photo counts, and the box of that row is in every answer. Numbers
of photos, such as k and `len`, never count rows. An index is either a folder written by
`keras-retrieval index` (ScaNN) or a collection on a Milvus server, `milvus://HOST:PORT/COLLECTION`. Both kinds
guarantee:

- `search` returns min(k, number of matching photos) hits per query, sorted by descending score, without padding. Scores
  are inner products of the query with the stored descriptors. With `exact`, the query is compared with every photo;
  otherwise an approximate search may miss some neighbours.
- `add` and `delete` return when the change is on disk. Every search that starts later uses the changed index.
- Invalid input raises `ArgumentError`, a ValueError that names the rows or the argument; the index remains unchanged.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from keras_retrieval.errors import ArgumentError

from .checks import check_columns
from .conditions import IN, Condition, parse_conditions
from .photo_crops import PhotoCrops

DESCRIPTOR_FACTS = (
    "model", "size", "scales", "antialias", "mirror", "edges", "bfloat16", "exif", "max_pixels", "crops",
)  # fmt: skip
"""Settings of `keras-retrieval extract` on which a descriptor depends, stored with the index.

Queries and photos that are added later must be described with the same settings.
"""


@dataclass(frozen=True)
class Hits:
    """The neighbours of one query, sorted by descending score.

    Attributes:
        names: names of the n photos.
        scores: inner products of the stored descriptors with the query, (n,) float32; with crops those of the best row
            of each photo.
        boxes: with crops the box of the best row of each photo, (n, 4) float32: left, top, right and bottom in pixels
            of the upright photo. None without crops.
        sizes: with crops the width and the height of each photo in pixels, (n, 2) float32. None without crops.
    """

    names: list[str]
    scores: np.ndarray
    boxes: np.ndarray | None = None
    sizes: np.ndarray | None = None

    def pick(self, places: Sequence[int] | np.ndarray) -> "Hits":
        """Returns the hits at some places, in their order."""
        taken = np.asarray(places, np.int64)
        names = [self.names[place] for place in taken.tolist()]
        boxes, sizes = (None if rows is None else rows[taken] for rows in (self.boxes, self.sizes))
        return Hits(names, self.scores[taken], boxes, sizes)


@dataclass(frozen=True)
class Filter:
    """Restricts a search to the photos that satisfy all given conditions.

    Attributes:
        names: names of the photos that may be found; None for all photos.
        columns: dict from column name to accepted values, which are strings. A photo satisfies the condition if its
            value in the column is one of them, or its list contains one; a photo without a value has the empty string.
        conditions: further conditions, such as ranges, which `parse_where` reads from texts.

    Raises:
        ArgumentError: `names` or the values of a column are a single string instead of a collection of strings.
    """

    names: Collection[str] | None = None
    columns: Mapping[str, Collection[str]] = field(default_factory=dict)
    conditions: Sequence[Condition] = ()

    def __post_init__(self) -> None:
        for label, values in {"names": self.names, **self.columns}.items():
            if isinstance(values, str):
                raise ArgumentError(f"{label} must be a collection of strings such as [{values!r}], got one string")

    @property
    def on_columns(self) -> list[Condition]:
        """All conditions on columns and on the names in `conditions`."""
        return [Condition(column, IN, tuple(values)) for column, values in self.columns.items()] + list(self.conditions)

    def check(self, facts: Mapping[str, Any]) -> None:
        """Checks that the filter fits the columns of an index, of which `facts` is the metadata.

        Raises:
            ArgumentError: a column is unknown, an operator is not for columns of its type, or a value in `conditions`
                is not of the type.
        """
        check_columns(self.columns, facts["columns"])
        for condition in self.conditions:
            condition.check(facts)


def parse_where(texts: Iterable[str]) -> Filter | None:
    """Reads a filter from conditions in the grammar of the module `conditions`.

    Args:
        texts: conditions, such as "year >= 2010"; one text may contain several, on lines of their own.

    Returns:
        The filter; None if there is no condition, so that all photos are searched.

    Raises:
        ArgumentError: a text is not a condition.
    """
    conditions = parse_conditions(texts)
    return Filter(conditions=conditions) if conditions else None


@dataclass(frozen=True)
class IndexState:
    """The photos that an open index searches, and whether they are the newest.

    Attributes:
        build: name of the build that is searched: the segment of an index folder, or the Milvus collection.
        photos: number of photos.
        loaded_at: when the build was loaded, in seconds since 1970.
        loads: number of builds that were loaded since the index was opened, including the first.
        failures: number of attempts to load a build, or to read changes, that failed.
        problem: why the newest photos cannot be read, so that older ones are searched; "" if they can.
    """

    build: str
    photos: int
    loaded_at: float
    loads: int = 1
    failures: int = 0
    problem: str = ""


class NeighbourIndex(Protocol):
    """An open index of the descriptors of N photos.

    Descriptors have D dimensions, and stored descriptors S dimensions. S = D unless the index was built with dimension
    reduction (`keras-retrieval index --dim S`).
    """

    @property
    def facts(self) -> Mapping[str, Any]:
        """Metadata of the index, a mapping that can be serialized as JSON.

        Contains the settings of `extract` (`DESCRIPTOR_FACTS`; indexes without crops may lack "crops"), "photos" (path
        of the photo folder), "dimensions" (D), "columns" (names of the columns), "column_types" (the type of each
        column; text where it is missing) and "configuration" (search settings; its entry "kind" describes the search
        in words).
        """
        ...

    @property
    def names(self) -> Sequence[str]:
        """The names of all photos, in the order of the rows that `vectors()` returns."""
        ...

    @property
    def row_count(self) -> int:
        """The number of stored descriptors: that of the photos, or with crops more."""
        ...

    @property
    def version(self) -> str:
        """A text that differs whenever photos have been added, replaced or deleted, also by other processes.

        A Milvus collection notices changes by other processes only if the number of photos differs.
        """
        ...

    @property
    def state(self) -> IndexState:
        """The photos that are searched, and whether they are the newest.

        Raises:
            OSError: the server of the index does not answer.
        """
        ...

    def __len__(self) -> int: ...

    def search(
        self, queries: np.ndarray, k: int = 10, *, exact: bool = False, where: Filter | None = None
    ) -> list[Hits]:
        """Finds the photos whose descriptors have the largest inner products with each query.

        With crops the best row of a photo counts. An approximate search goes on until it has found k photos, and
        compares all rows of the photos that it returns.

        Args:
            queries: descriptors (Q, D), or stored descriptors (Q, S) as returned by `vectors`; Q may be 0.
            k: number of neighbours per query.
            exact: whether to compare each query with every photo instead of searching approximately.
            where: filter that restricts the search; None to search all photos.

        Returns:
            One `Hits` per query, with min(k, number of matching photos) neighbours.

        Raises:
            ArgumentError: `k` is below 1, `queries` has another shape or a value that is not finite, or `where` does
                not fit the columns of the index.
        """
        ...

    def add(
        self,
        names: Sequence[str],
        rows: np.ndarray,
        columns: Mapping[str, Sequence[Any]] | None = None,
        *,
        crops: PhotoCrops | None = None,
    ) -> None:
        """Adds photos. A photo whose name is in the index already is replaced: all its rows, and given column values.

        Args:
            names: distinct names of the n photos, arbitrary strings.
            rows: descriptors (n, D), or stored descriptors (n, S) as returned by `vectors`; with crops (R, D) or (R,
                S).
            columns: one value per photo for some or all columns of the index, by column name: texts, or for columns of
                other types also numbers and lists of texts. Photos that are replaced keep their values of other
                columns; new photos have none.
            crops: the crops of the photos, for an index with crops only.

        Raises:
            ArgumentError: shapes do not match, a name is repeated, a column is unknown, a value is not of the type of
                its column, a row is not finite, or `crops` are given to an index without crops or not given to one
                with crops; the message names the first offending rows.
            OSError: writing to the disk or the server failed, or another process is writing to the index. Some of the
                photos may have been added; the call can be repeated with all of them.
        """
        ...

    def add_columns(self, types: Mapping[str, str]) -> None:
        """Adds columns, which are empty for all photos that are in the index.

        Args:
            types: the type of each column by its name, one of `column_types.COLUMN_TYPES`. A column that the index has
                with this type already stays as it is.

        Raises:
            ArgumentError: a name is empty or reserved, a type is unknown, or the index has the column with another
                type.
            OSError: writing to the disk or the server failed, or another process is writing to the index.
        """
        ...

    def change_columns(self, names: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> int:
        """Changes column values of photos, and leaves their descriptors and other columns as they are.

        Args:
            names: distinct names of n photos; those that are not in the index are ignored.
            columns: n values for some columns of the index, by column name, as for `add`.

        Returns:
            The number of the photos that are in the index.

        Raises:
            ArgumentError: lengths do not match, a name is repeated, a column is unknown, or a value is not of the type
                of its column.
            OSError: writing to the disk or the server failed, or another process is writing to the index.
        """
        ...

    def delete(self, names: Sequence[str]) -> int:
        """Deletes photos by name; unknown names are ignored.

        Returns:
            The number of deleted photos.

        Raises:
            OSError: writing to the disk or the server failed, or another process is writing to the index.
        """
        ...

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Returns the stored descriptors of photos, memory-mapped if possible; with crops those of the whole photos.

        Args:
            names: names of the n photos; None for all photos, in the order of `names`.

        Returns:
            The stored descriptors, (n, S) float32.

        Raises:
            ArgumentError: a name is unknown.
        """
        ...

    def crops(self, names: Sequence[str]) -> tuple[np.ndarray, PhotoCrops]:
        """Returns all stored descriptors of photos and their crops.

        Args:
            names: names of the n photos.

        Returns:
            The stored descriptors, (R, S) float32, and the crops of the photos.

        Raises:
            ArgumentError: a name is unknown, or the index has no crops.
        """
        ...

    def to_stored(self, rows: np.ndarray) -> np.ndarray:
        """Converts descriptors to stored descriptors, by the projection of an index with dimension reduction.

        Args:
            rows: descriptors (n, D), or stored descriptors (n, S), which are returned unchanged.

        Returns:
            The stored descriptors, (n, S) float32.

        Raises:
            ArgumentError: `rows` has another shape or a value that is not finite.
        """
        ...

    def columns(self, names: Sequence[str] | None = None) -> dict[str, list[str]]:
        """Returns the values of all columns of photos.

        Args:
            names: names of the n photos, which may be repeated; None for all photos, in the order of the attribute
                `names`.

        Returns:
            A dict from the name of each column of the index to n strings. A photo without a value has the empty string;
            a list of texts is JSON.

        Raises:
            ArgumentError: a name is unknown.
        """
        ...

    def close(self) -> None:
        """Releases files and connections. Changes are on disk even if this method is never called."""
        ...
