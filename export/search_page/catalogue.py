"""The photos that a page shows: their names in natural order, and their facts as arrays."""

import copy
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.tables import column_key
from keras_retrieval.pipelines.photos.position_table import degree_columns

from keras_retrieval.errors import ArgumentError

from ..index_contract.column_types import TEXT, TYPES, type_of
from ..index_contract.conditions import PHOTO_COLUMN, ColumnValues, Condition
from ..index_contract.photo_time import time_span
from .natural_order import natural_order

TIME_COLUMNS = ("time", "datetime", "datetimeoriginal", "timestamp", "taken", "datetaken", "capturetime", "date")
"""Names of columns with times, as `files.tables.column_key` writes them; an earlier name takes precedence."""

INTERNAL_COLUMNS = ("modified", "bytes")
"""Columns by which `app` recognises changed files; they are not shown."""


class Catalogue:
    """The photos of a collection at one point in time; immutable.

    Args:
        names: names of the N photos, paths relative to the photo folder, in any order.
        columns: one string per photo for each column, in the order of `names`. A column of times (ISO 8601; see
            `TIME_COLUMNS`), and columns of latitude and longitude in decimal degrees (names as in
            `pipelines.photos.position_table`), become arrays; values that cannot be read count as absent.
        searchable: whether each photo is in the index, (N,) bool, or the names of those that are; None if all are.
        version: text that differs from that of every other catalogue of the collection.
        types: types of columns, as an index stores them; those that it lacks are texts.

    Attributes:
        names: names of the photos in natural order (by folder, then by name, with numbers by value).
        searchable: whether each photo is in the index, (N,) bool, in the order of `names`, as are all others.
        times: when each photo was taken, in seconds since 1970 on the clock of the place, (N,) float64; NaN if unknown.
        latitude: degrees, (N,) float64; NaN if unknown, or if the longitude is.
        longitude: degrees, (N,) float64; NaN if unknown, or if the latitude is.
        columns: one string per photo for each column that is shown, which excludes `INTERNAL_COLUMNS` and the columns
            of times and positions.
        column_values: the values of each column that can be filtered by, which excludes `INTERNAL_COLUMNS`.
        roles: "time", "latitude" and "longitude" by the name of the column from which they are.
        time_texts: the times as they are in their column; None without such a column.
        version: the version.

    Raises:
        ArgumentError: a column or `searchable` has another length than `names`.
    """

    def __init__(
        self,
        names: Sequence[str],
        columns: Mapping[str, Sequence[str]] | None = None,
        searchable: np.ndarray | Collection[str] | None = None,
        version: str = "",
        types: Mapping[str, str] | None = None,
    ) -> None:
        columns = columns or {}
        for column, texts in columns.items():
            if len(texts) != len(names):
                raise ArgumentError(f"columns: {len(texts)} values of {column!r} for {len(names)} names")
        order = natural_order(names)
        self.names = [names[row] for row in order]
        sorted_columns = {column: [texts[row] for row in order] for column, texts in columns.items()}
        time, degrees = _time_column(list(columns)), degree_columns(list(columns))
        self.time_texts = None if time is None else sorted_columns[time]
        self.times = _times(self.time_texts, len(names))
        self.latitude, self.longitude = _positions(sorted_columns, degrees, len(names))
        special = {time, *(degrees or ()), *INTERNAL_COLUMNS}
        self.columns = {column: texts for column, texts in sorted_columns.items() if column not in special}
        self.roles = dict(zip((time, *(degrees or ())), ("time", "latitude", "longitude"), strict=False))
        self.roles.pop(None, None)
        self.version = version
        self._facts = {"columns": list(sorted_columns), TYPES: dict(types or {})}
        self._values = {
            column: ColumnValues(type_of(self._facts, column), texts) for column, texts in sorted_columns.items()
        }
        self.column_values = {
            column: values for column, values in self._values.items() if column not in INTERNAL_COLUMNS
        }
        if isinstance(searchable, np.ndarray):
            searchable = searchable[order] if len(searchable) == len(names) else searchable
        self.searchable = self._searchable(searchable)

    def __len__(self) -> int:
        return len(self.names)

    def with_searchable(self, searchable: np.ndarray | Collection[str], version: str) -> "Catalogue":
        """Makes a catalogue of the same photos, quickly, of which others are searchable.

        Args:
            searchable: whether each photo is in the index, (N,) bool in the order of the attribute `names`, or the
                names of those that are.
            version: version of the new catalogue.

        Raises:
            ArgumentError: the array has another length than `names`.
        """
        other = copy.copy(self)
        other.searchable, other.version = self._searchable(searchable), version
        return other

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row number of each photo, by name."""
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def folders(self) -> tuple[list[str], np.ndarray]:
        """The distinct folders that contain photos directly, in natural order, and the number of each photo's, (N,)."""
        numbers: dict[str, int] = {}
        codes = [numbers.setdefault(name.rpartition("/")[0], len(numbers)) for name in self.names]
        return list(numbers), np.array(codes, np.int32)

    @cached_property
    def lower_names(self) -> list[str]:
        """The names without distinction of case, for the search for parts of names."""
        return [name.casefold() for name in self.names]

    def codes(self, column: str) -> tuple[list[str], np.ndarray]:
        """Returns the distinct values of a column, and the number of each photo's value, (N,) int32.

        Raises:
            KeyError: there is no such column.
        """
        if column not in self._codes:
            numbers: dict[str, int] = {}
            codes = [numbers.setdefault(text, len(numbers)) for text in self._values[column].texts]
            self._codes[column] = list(numbers), np.array(codes, np.int32)
        return self._codes[column]

    @cached_property
    def _codes(self) -> dict[str, tuple[list[str], np.ndarray]]:
        return {}

    def matches(self, condition: Condition) -> np.ndarray:
        """Evaluates a condition on a column or the name for all photos, (N,) bool.

        Raises:
            ArgumentError: the condition does not fit the columns.
        """
        condition.check(self._facts)
        column = condition.column
        return condition.matches(ColumnValues(TEXT, self.names) if column == PHOTO_COLUMN else self._values[column])

    @property
    def has_times(self) -> bool:
        """Whether any photo has a time."""
        return bool(np.isfinite(self.times).any())

    @property
    def has_positions(self) -> bool:
        """Whether any photo has a position."""
        return bool(np.isfinite(self.latitude).any())

    @property
    def has_folders(self) -> bool:
        """Whether the photos are in more than one folder."""
        return len(self.folders[0]) > 1

    def facts(self, row: int) -> dict[str, Any]:
        """Returns what the page shows of a photo, as a document for JSON.

        Args:
            row: row number of the photo.

        Returns:
            A dict with "name", "searchable", "time" (ISO 8601 text or None), "latitude" and "longitude" (degrees or
            None) and "columns" (the values that are not empty).
        """
        located = np.isfinite(self.latitude[row])
        return {
            "name": self.names[row],
            "searchable": bool(self.searchable[row]),
            "time": self.time_texts[row] if self.time_texts and np.isfinite(self.times[row]) else None,
            "latitude": round(float(self.latitude[row]), 7) if located else None,
            "longitude": round(float(self.longitude[row]), 7) if located else None,
            "columns": {column: texts[row] for column, texts in self.columns.items() if texts[row]},
        }

    def _searchable(self, given: np.ndarray | Collection[str] | None) -> np.ndarray:
        if given is None:
            return np.ones(len(self.names), bool)
        if isinstance(given, np.ndarray):
            if given.shape != (len(self.names),):
                raise ArgumentError(f"searchable has the shape {given.shape}, and there are {len(self.names)} names")
            return given.astype(bool)
        known = set(given)
        return np.fromiter((name in known for name in self.names), bool, len(self.names))


def _time_column(columns: Sequence[str]) -> str | None:
    keys = {column: column_key(column) for column in columns}
    return next((column for wanted in TIME_COLUMNS for column in columns if keys[column] == wanted), None)


def _times(texts: Sequence[str] | None, count: int) -> np.ndarray:
    times = np.full(count, np.nan)
    for row, text in enumerate(texts or ()):
        span = time_span(text) if text else None
        if span is not None:
            times[row] = span[0]
    return times


def _positions(
    columns: Mapping[str, Sequence[str]], degrees: tuple[str, str] | None, count: int
) -> tuple[np.ndarray, np.ndarray]:
    if degrees is None:
        return np.full(count, np.nan), np.full(count, np.nan)
    latitude, longitude = (np.array([_number(text) for text in columns[column]], np.float64) for column in degrees)
    valid = (np.abs(latitude) <= 90) & (np.abs(longitude) <= 180)
    return np.where(valid, latitude, np.nan), np.where(valid, longitude, np.nan)


def _number(text: str) -> float:
    try:
        return float(text) if text else np.nan
    except ValueError:
        return np.nan
