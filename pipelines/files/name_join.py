"""Joins the rows of tables and lists with photos by name.

A name in a table stands for the photo of the first of these rules that finds one:

1. the photo has exactly this name, which is its path below the folder of the photos;
2. both names are equal in Unicode's normal form NFC, with / for the backslashes of Windows;
3. the parts of one path are the last parts of the other: 01.jpg or /home/me/photos/church/01.jpg for church/01.jpg;
4. as rule 3, and the name in the table lacks the suffix: church/01 for church/01.jpg.

Rules 3 and 4 need exactly one such photo. Capital and small letters differ, as they do on disk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from keras_retrieval.errors import RetrievalError, printable

from .stored_path import normal

PHOTO_SYNONYMS = (
    "image", "img", "picture", "file", "filename", "imagename", "photoname", "filepath", "path", "name", "foto"
)  # fmt: skip
"""Synonyms of a table's column `photo`, see `Table.column`."""


class JoinError(RetrievalError, ValueError):
    """A name may be that of several photos, two rows name one photo, or no row names a photo."""


class PhotoNames:
    """Finds photos by the names that tables and ground truths give them.

    Args:
        names: the distinct names of the photos: paths below their folder, with / between their parts.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._exact = {name: row for row, name in enumerate(names)}

    @cached_property
    def _normal(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.names):
            rows.setdefault(_normal(name), []).append(row)
        return rows

    @cached_property
    def _last(self) -> dict[str, list[int]]:
        """The photos by the last part of their names, and by the last part without suffix."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.names):
            last = _normal(name).rpartition("/")[2]
            for key in {last, _stem(last)}:
                rows.setdefault(key, []).append(row)
        return rows

    def find(self, name: str) -> int | None:
        """Finds the photo of a name.

        Args:
            name: the name in a table.

        Returns:
            The index of the photo; None if there is none.

        Raises:
            JoinError: several photos may be meant.
        """
        if name in self._exact:
            return self._exact[name]
        normal = _normal(name.strip())
        rows = self._normal.get(normal) or self._alike(normal)
        if len(rows) > 1:
            first, second = (self.names[row] for row in rows[:2])
            raise JoinError(f"'{name}' may be {first} or {second}: write the whole name")
        return rows[0] if rows else None

    def _alike(self, name: str) -> list[int]:
        if not name:
            return []
        candidates = self._last.get(name.rpartition("/")[2], [])
        whole = [row for row in candidates if _ends_alike(name, _normal(self.names[row]))]
        return whole or [row for row in candidates if _ends_alike(name, _stem(_normal(self.names[row])))]


@dataclass(frozen=True)
class Join:
    """The photos that the rows of a table name.

    Attributes:
        photos: for each row the index of its photo; -1 if there is none.
        report: how many photos have a row and how many rows have none, with the first of each, as a line of text.
        complete: whether every photo has a row, and every row a photo.
    """

    photos: list[int]
    report: str
    complete: bool


def join_rows(
    source: object,
    rows: Sequence[str],
    photos: PhotoNames,
    where: Callable[[int], str],
    repeated: bool = False,
    noun: str = "photo",
) -> Join:
    """Joins the rows of a table with photos.

    Args:
        source: the file of the table, for messages.
        rows: the name in each row.
        photos: the photos.
        where: returns the file and the line of a row, for messages.
        repeated: whether several rows may have the same name; two different names of one photo are always an error.
        noun: the word for a photo.

    Raises:
        JoinError: a name may be that of several photos, two rows name one photo, no row names a photo, or there are no
            rows.
    """
    if not rows:
        raise JoinError(f"{source} has no rows below its heading")
    found: list[int] = []
    first: dict[int, int] = {}
    for row, name in enumerate(rows):
        try:
            photo = photos.find(name)
        except JoinError as error:
            raise JoinError(f"{where(row)}: {error}") from None
        found.append(-1 if photo is None else photo)
        if photo is None:
            continue
        earlier = first.setdefault(photo, row)
        if earlier != row and not (repeated and rows[earlier] == name):
            raise JoinError(
                f"{where(row)}: {noun} {photos.names[photo]!r} occurs twice, also at {where(earlier)}: remove one row"
            )
    with_row, without_row = len(first), [name for row, name in enumerate(photos.names) if row not in first]
    alone = [row for row, photo in enumerate(found) if photo < 0]
    if not with_row:
        raise JoinError(
            f"{source}: none of its {len(rows):,} rows names one of the {len(photos.names):,} {noun}s: a row names "
            f"{some_of(list(rows))}, a {noun} is named {some_of(list(photos.names))}"
        )
    parts = [f"{with_row:,} of {len(photos.names):,} {noun}s have a row"]
    if without_row:
        parts.append(f"{noun}s without a row: {len(without_row):,}, such as {some_of(without_row)}")
    if alone:
        lines, listed = {where(row) for row in alone}, list(dict.fromkeys(rows[row] for row in alone))
        parts.append(f"rows without a {noun}: {len(lines):,}, such as {some_of(listed)}")
    return Join(found, f"{source}: {'; '.join(parts)}", not without_row and not alone)


def _normal(name: str) -> str:
    parts = normal(name).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _stem(name: str) -> str:
    """The name without the suffix of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)


def _ends_alike(one: str, other: str) -> bool:
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")


def some_of(names: Sequence[str]) -> str:
    """The first three names, for messages."""
    return ", ".join(map(printable, names[:3])) + (", .." if len(names) > 3 else "") if names else "nothing"
