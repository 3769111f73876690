"""checks."""

from collections.abc import Iterable, Sequence

import numpy as np


def check_names(names: Sequence[str]) -> None:
    """Refuses names that are no text, and a name that is there twice.

    Raises:
        ValueError: with the numbers of the rows.
    """
    check_texts(names, "a name")
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            raise ValueError(f"rows {first[name]} and {row} have one name: {name!r}")


def check_texts(values: Sequence[str], what: str) -> None:
    """Refuses values that are no text.

    Raises:
        ValueError: names the first by its row.
    """
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(f"row {row}: {what} is a text, not {value!r}")


def check_rows(pieces: Iterable[np.ndarray], what: str = "rows") -> None:
    """Refuses rows that ScaNN must not see: one NaN ends its process.

    Args:
        pieces: the rows in order, (n, D) each.
        what: what an error calls them.

    Raises:
        ValueError: rows that are not finite, or so large that products with them are not; it names the first.
    """
    bad, first = [], 0
    for rows in pieces:
        with np.errstate(all="ignore"):
            bad += (first + np.flatnonzero(~np.isfinite(np.einsum("nd,nd->n", rows, rows)))).tolist()
        first += len(rows)
    if bad:
        raise ValueError(f"{len(bad)} {what} are not finite, the first are {bad[:5]}")


def check_columns(columns: Iterable[str], known: Iterable[str]) -> None:
    """Refuses columns that an index has not.

    Raises:
        ValueError: names the first, and those that there are.
    """
    known = list(known)
    for column in columns:
        if column not in known:
            raise ValueError(f"the index has no column '{column}'; it has: {', '.join(known) or 'none'}")
