"""Names of photos and the sizes with which they enter a network, in columns, since a run may have a million."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, repeat
from typing import Any, overload

from ..files.durable import FolderError
from ..photos.reading import Shape


class SizedPhotos(Sequence[tuple[Shape, str]]):
    """A sequence of the (height, width) in pixels and the name of each photo.

    Args:
        shapes: the (height, width) of each photo; equal ones should be one object.
        names: the name of each photo.
    """

    __slots__ = ("names", "shapes")

    def __init__(self, shapes: Sequence[Shape], names: Sequence[str]) -> None:
        self.shapes, self.names = shapes, names

    @classmethod
    def sorted(cls, photos: Iterable[tuple[Shape, str]]) -> "SizedPhotos":
        """Sorts photos by size, and by name."""
        return cls._of_groups((shape, [name for _, name in group]) for shape, group in groupby(sorted(photos), _shape))

    @classmethod
    def parse(cls, plan: Any) -> "SizedPhotos":
        """Returns the photos of a plan; raises FolderError if it is not of the form of `plan`."""
        try:
            groups = [((int(height), int(width)), list(names)) for (height, width), names in plan]
            if all(isinstance(name, str) for _, names in groups for name in names):
                return cls._of_groups(groups)
        except (TypeError, ValueError):
            pass
        raise FolderError("the plan has no photos")

    @classmethod
    def _of_groups(cls, groups: Iterable[tuple[Shape, list[str]]]) -> "SizedPhotos":
        made = list(groups)
        shapes = list(chain.from_iterable(repeat(shape, len(names)) for shape, names in made))
        return cls(shapes, list(chain.from_iterable(names for _, names in made)))

    def plan(self) -> list[tuple[Shape, list[str]]]:
        """The names of the photos of each run of equal sizes, serialisable as JSON."""
        found, start = [], 0
        for shape, group in groupby(self.shapes):
            end = start + sum(1 for _ in group)
            found.append((shape, list(self.names[start:end])))
            start = end
        return found

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> tuple[Shape, str]: ...
    @overload
    def __getitem__(self, index: slice) -> "SizedPhotos": ...
    def __getitem__(self, index: int | slice) -> "tuple[Shape, str] | SizedPhotos":
        if isinstance(index, slice):
            return SizedPhotos(self.shapes[index], self.names[index])
        return self.shapes[index], self.names[index]

    def __iter__(self) -> Iterator[tuple[Shape, str]]:
        return zip(self.shapes, self.names, strict=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.plan(),)


def _unpickled(groups: list[tuple[Shape, list[str]]]) -> SizedPhotos:
    return SizedPhotos._of_groups(groups)


def _shape(photo: tuple[Shape, str]) -> Shape:
    return photo[0]
