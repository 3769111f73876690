"""Checks the arguments that callers pass to an index: names, rows, columns and the number of neighbours."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Sized

import numpy as np

from keras_retrieval.errors import ArgumentError


def check_k(k: int) -> None:
    """Checks a number of neighbours.

    Raises:
        ArgumentError: `k` is below 1.
    """
    if k < 1:
        raise ArgumentError(f"k must be at least 1, got {k}")


def check_names(names: Sequence[str]) -> None:
    """Checks that names are strings and distinct.

    Raises:
        ArgumentError: a name is not a string or is repeated; the message gives the row numbers.
    """
    check_strings(names, "a name")
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            raise ArgumentError(f"rows {first[name]} and {row} have the same name: {name!r}")


def check_strings(values: Sequence[str], label: str) -> None:
    """Checks that values are strings.

    Args:
        values: values to check.
        label: noun for a value in the message, such as "a name".

    Raises:
        ArgumentError: a value is not a string; the message gives the first such row.
    """
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ArgumentError(f"row {row}: {label} must be a string, got {value!r}")


def check_shape(rows: np.ndarray, widths: Collection[int], dimensions: int, label: str) -> None:
    """Checks that rows form a two-dimensional array of an accepted width.

    Args:
        rows: rows to check.
        widths: accepted numbers of dimensions.
        dimensions: number of dimensions to state in the message.
        label: noun for the rows in the message, such as "queries".

    Raises:
        ArgumentError: the rows have another shape.
    """
    if rows.ndim != 2:
        raise ArgumentError(f"{label} must be an array of shape (n, dimensions), got {rows.shape}")
    if rows.shape[1] not in widths:
        raise ArgumentError(f"{label} have {rows.shape[1]} dimensions, the index has {dimensions}")


def check_finite(blocks: Iterable[np.ndarray], label: str = "rows") -> None:
    """Checks that rows and their squared lengths are finite, since a single NaN makes ScaNN end the process.

    Args:
        blocks: the rows in order, in blocks of shape (n, D).
        label: noun for the rows in the message.

    Raises:
        ArgumentError: rows are not finite; the message gives their number and the first of them.
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
        ArgumentError: a column is unknown; the message names the first one and the columns of the index.
    """
    for column in columns:
        if column not in known:
            raise ArgumentError(f"the index has no column '{column}'; its columns: {', '.join(known) or 'none'}")


def check_lengths(names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sized]) -> None:
    """Checks that the rows and each column have as many entries as there are names.

    Raises:
        ArgumentError: the lengths differ; the message gives both.
    """
    for label, count in {"rows": len(rows), **{f"values of '{key}'": len(columns[key]) for key in columns}}.items():
        if count != len(names):
            raise ArgumentError(f"got {len(names)} names and {count} {label}")
