"""Checks of what callers pass to an index: names, rows, columns and the number of neighbours."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Sized

import numpy as np

from keras_retrieval.errors import ArgumentError


def check_k(k: int) -> None:
    """Checks a number of neighbours.

    Raises:
        ArgumentError: k is below 1.
    """
    if k < 1:
        raise ArgumentError(f"k must be at least 1, got {k}")


def check_names(names: Sequence[str]) -> None:
    """Checks that names are strings and distinct.

    Raises:
        ArgumentError: with the numbers of the rows.
    """
    check_strings(names, "a name")
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            raise ArgumentError(f"rows {first[name]} and {row} have the same name: {name!r}")


def check_strings(values: Sequence[str], label: str) -> None:
    """Checks that values are strings.

    Args:
        values: the values to check.
        label: names a value in the message, such as "a name".

    Raises:
        ArgumentError: with the row of the first value that is not a string.
    """
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ArgumentError(f"row {row}: {label} must be a string, got {value!r}")


def check_shape(rows: np.ndarray, widths: Collection[int], dimensions: int, label: str) -> None:
    """Checks that rows are an array (n, dimensions).

    Args:
        rows: the rows to check.
        widths: the numbers of dimensions that are accepted.
        dimensions: the number of dimensions for the message.
        label: names the rows in the message, such as "queries".

    Raises:
        ArgumentError: rows of another shape.
    """
    if rows.ndim != 2:
        raise ArgumentError(f"{label} must be an array of shape (n, dimensions), got {rows.shape}")
    if rows.shape[1] not in widths:
        raise ArgumentError(f"{label} have {rows.shape[1]} dimensions, the index has {dimensions}")


def check_finite(blocks: Iterable[np.ndarray], label: str = "rows") -> None:
    """Checks that rows and their squared lengths are finite: a single NaN ends the process of ScaNN.

    Args:
        blocks: the rows in order, in blocks (n, D).
        label: names the rows in the message.

    Raises:
        ArgumentError: with the number of bad rows and the first of them.
    """
    bad, first = [], 0
    for rows in blocks:
        with np.errstate(all="ignore"):
            bad += (first + np.flatnonzero(~np.isfinite(np.einsum("nd,nd->n", rows, rows)))).tolist()
        first += len(rows)
    if bad:
        raise ArgumentError(f"{len(bad)} {label} are not finite, the first are {bad[:5]}")


def check_columns(columns: Iterable[str], known: Collection[str]) -> None:
    """Checks that an index has these columns.

    Raises:
        ArgumentError: with the first unknown column and those that the index has.
    """
    for column in columns:
        if column not in known:
            raise ArgumentError(f"the index has no column '{column}'; its columns: {', '.join(known) or 'none'}")


def check_lengths(names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sized]) -> None:
    """Checks that there are as many rows and values in each column as names.

    Raises:
        ArgumentError: with both numbers.
    """
    for label, count in {"rows": len(rows), **{f"values of '{key}'": len(columns[key]) for key in columns}}.items():
        if count != len(names):
            raise ArgumentError(f"got {len(names)} names and {count} {label}")
