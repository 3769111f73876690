"""Groups of photos that are copies of one photo."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

EXACT, NEAR = "exact", "near"
"""The two kinds of groups: all files have the same bytes, or some differ."""


@dataclass(frozen=True)
class Photo:
    """A photo that has copies.

    Attributes:
        name: its name.
        width: its width in pixels, 0 if it cannot be read.
        height: its height in pixels, 0 if it cannot be read.
        size: the size of its file in bytes.
        changed: the modification time of its file in ns.
    """

    name: str
    width: int
    height: int
    size: int
    changed: int

    @property
    def order(self) -> tuple[int, int, int, str]:
        """A key that sorts copies: most pixels first, then the largest file, the oldest, and the first name."""
        return -self.width * self.height, -self.size, self.changed, self.name


@dataclass(frozen=True)
class Group:
    """The copies of one photo.

    Attributes:
        photos: two or more photos, sorted by `Photo.order`, so that the first one is the one to keep.
        exact: sets of names of files with the same bytes, two or more each.
        similarity: the smallest similarity by which photos were joined into the group; 1 for files with the same bytes.
    """

    photos: tuple[Photo, ...]
    exact: tuple[tuple[str, ...], ...] = ()
    similarity: float = 1.0

    @property
    def kind(self) -> str:
        """`EXACT` if all files have the same bytes, else `NEAR`."""
        return EXACT if any(len(names) == len(self.photos) for names in self.exact) else NEAR

    @property
    def names(self) -> list[str]:
        """The names of the photos, the one to keep first."""
        return [photo.name for photo in self.photos]

    def has_bytes_of_kept(self, name: str) -> bool:
        """Whether a photo's file has the same bytes as that of the photo to keep."""
        return any({name, self.photos[0].name} <= set(names) for names in self.exact)


@dataclass(frozen=True)
class Copies:
    """All copies among some photos.

    Attributes:
        groups: the groups, the largest first.
        count: the number of photos that were compared.
        left_out: maps the names of photos that cannot be read, of which only the bytes were compared, to the reasons.
        featureless: the number of photos without details, such as blank pages, which are copies only if their colours
            agree.
    """

    groups: list[Group]
    count: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    featureless: int = 0

    def group_of(self, names: Sequence[str]) -> np.ndarray:
        """Returns the number of each photo's group, (n,) int64; -1 for photos without a copy."""
        return group_numbers([group.names for group in self.groups], names)

    @property
    def account(self) -> str:
        """One line with the numbers of groups and copies."""
        if not self.groups:
            return f"no copies among {self.count:,} photos"
        copies = sum(len(group.photos) - 1 for group in self.groups)
        exact = sum(group.kind == EXACT for group in self.groups)
        return (
            f"{copies:,} of {self.count:,} photos are copies of others, in {len(self.groups):,} "
            f"group{'' if len(self.groups) == 1 else 's'}: {exact:,} of files with the same bytes, "
            f"{len(self.groups) - exact:,} of photos that differ in size, crop, quality or orientation"
        )


def group_numbers(groups: Iterable[Sequence[str]], names: Sequence[str]) -> np.ndarray:
    """Returns the number of the group of each name, (n,) int64; -1 for names in no group."""
    number = {name: row for row, some in enumerate(groups) for name in some}
    return np.array([number.get(name, -1) for name in names], np.int64)
