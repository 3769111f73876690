"""Checks of the arguments that callers pass to an index: names, descriptors, columns and the number of neighbours."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError, printable

from .column_types import COLUMN_TYPES, NOUNS, TEXT, converter, type_of
from .conditions import PHOTO_COLUMN
from .photo_crops import PhotoCrops

NO_CROPS = "the index has one row per photo, and no crops"


def check_k(k: int) -> None:
    """Checks that the requested number of neighbours is at least 1.

    Raises:
        ArgumentError: `k` is below 1.
    """
    if k < 1:
        raise ArgumentError(f"k must be at least 1, got {k}")


def check_names(names: Sequence[str]) -> None:
    """Checks that the names of photos are distinct strings.

    Raises:
        ArgumentError: a name is not a string, or occurs twice; the message gives the row numbers.
    """
    check_strings(names, "a name")
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            raise ArgumentError(f"rows {first[name]} and {row} have the same name: {name!r}")


def check_strings(values: Sequence[str], label: str) -> None:
    """Checks that all values are strings.

    Args:
        values: values to check.
        label: noun for one value in the error message, such as "a name".

    Raises:
        ArgumentError: a value is not a string; the message gives the row number of the first such value.
    """
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ArgumentError(f"row {row}: {label} must be a string, got {value!r}")


def check_shape(rows: np.ndarray, widths: Collection[int], dimensions: int, label: str) -> None:
    """Checks that descriptors form a two-dimensional array with an accepted number of dimensions.

    Args:
        rows: descriptors to check, expected shape (n, D).
        widths: accepted values of D.
        dimensions: number of dimensions that the error message states for the index.
        label: noun for the descriptors in the error message, such as "queries".

    Raises:
        ArgumentError: the array is not two-dimensional, or D is not in `widths`.
    """
    if rows.ndim != 2:
        raise ArgumentError(f"{label} must be an array of shape (n, dimensions), got {rows.shape}")
    if rows.shape[1] not in widths:
        raise ArgumentError(f"{label} have {rows.shape[1]} dimensions, the index has {dimensions}")


def check_finite(blocks: Iterable[np.ndarray], label: str = "rows") -> None:
    """Checks that all descriptors and their squared norms are finite, because a single NaN makes ScaNN end the process.

    Args:
        blocks: descriptors in order, in blocks of shape (n, D).
        label: noun for the descriptors in the error message.

    Raises:
        ArgumentError: a descriptor is not finite; the message gives the number of such rows and the first five row
            numbers.
    """
    bad, first = [], 0
    for rows in blocks:
        with np.errstate(all="ignore"):
            bad += (first + np.flatnonzero(~np.isfinite(np.einsum("nd,nd->n", rows, rows)))).tolist()
        first += len(rows)
    if bad:
        raise ArgumentError(f"{len(bad)} {label} are not finite, the first are {bad[:5]}")


def check_columns(columns: Iterable[str], known: Collection[str]) -> None:
    """Checks that an index has all given columns.

    Args:
        columns: names of the columns to check.
        known: names of the columns of the index.

    Raises:
        ArgumentError: a column is unknown; the message names the first unknown column and lists those of the index.
    """
    for column in columns:
        if column not in known:
            raise ArgumentError(f"the index has no column '{column}'; its columns: {', '.join(known) or 'none'}")


def check_column_name(column: str) -> None:
    """Checks the name of a new column, by which conditions must be able to name it.

    Raises:
        ArgumentError: it is empty or reserved, or is not valid Unicode.
    """
    valid = isinstance(column, str) and column.strip() and column == column.encode(errors="replace").decode()
    if not valid or column == PHOTO_COLUMN:
        raise ArgumentError(f"a column cannot be named '{printable(str(column))}': give it another name")


def new_columns(types: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, str]:
    """Checks columns to add to an index, and returns those that it lacks, with their types.

    Raises:
        ArgumentError: a name is empty or reserved, a type is unknown, or the index has the column with another type.
    """
    new = {}
    for column, kind in types.items():
        check_column_name(column)
        if kind not in COLUMN_TYPES:
            raise ArgumentError(f"the type of '{column}' must be one of {', '.join(COLUMN_TYPES)}, got {kind!r}")
        if column not in facts["columns"]:
            new[column] = kind
        elif type_of(facts, column) != kind:
            raise ArgumentError(f"the index has '{column}' as {NOUNS[type_of(facts, column)]}, not {NOUNS[kind]}")
    return new


def stored_values(columns: Mapping[str, Sequence[Any]], facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """Checks values of columns, and converts them to the texts that an index stores.

    Args:
        columns: values by column name.
        facts: metadata of the index, `NeighbourIndex.facts`.

    Raises:
        ArgumentError: a column is unknown, or a value is not of the type of its column; the message gives the row.
    """
    check_columns(columns, facts["columns"])
    stored = {}
    for column, values in columns.items():
        kind = type_of(facts, column)
        if kind == TEXT:
            check_strings(values, f"a value of '{column}'")
            stored[column] = list(values)
            continue
        convert, stored[column] = converter(kind, values), []
        for row, value in enumerate(values):
            try:
                stored[column].append(convert(value))
            except ArgumentError as error:
                raise ArgumentError(f"row {row}: a value of '{column}': {error}") from None
    return stored


def check_crops(crops: PhotoCrops | None, facts: Mapping[str, Any]) -> None:
    """Checks that photos to add have crops if, and only if, the index has.

    Args:
        crops: the crops of the photos, or None.
        facts: metadata of the index, `NeighbourIndex.facts`.

    Raises:
        ArgumentError: the index has crops and `crops` is None, or the reverse.
    """
    if crops is not None and not facts.get("crops"):
        raise ArgumentError(NO_CROPS)
    if crops is None and facts.get("crops"):
        levels = ",".join(map(str, facts["crops"]))
        raise ArgumentError(f"the index has several rows per photo: extract with --crops {levels}, and give the crops")


def check_lengths(names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sized]) -> None:
    """Checks that there is one descriptor, and one value in each column, per name.

    Args:
        names: names of the n photos.
        rows: descriptors, expected to have n rows.
        columns: values of each column by column name, expected to have length n.

    Raises:
        ArgumentError: a length differs from the number of names; the message gives both lengths.
    """
    for label, count in {"rows": len(rows), **{f"values of '{key}'": len(columns[key]) for key in columns}}.items():
        if count != len(names):
            raise ArgumentError(f"got {len(names)} names and {count} {label}")
