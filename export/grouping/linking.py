"""Joins photos to groups of one object from pairs that are probable enough, so that no chain joins two objects.

A photo that shows two objects, or a false pair, must not join two groups. So two groups of several photos are joined
only by two pairs that have no photo in common, and a photo joins a group of several photos only by pairs with two of
them. What a single pair would join stays apart: the promise is that of precision.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """Two photos that are likely to show the same object.

    Attributes:
        one: the first photo.
        other: the second photo.
        probability: the probability that they show the same object.
        inliers: the number of points that agree; None if local features were not compared.
    """

    one: str
    other: str
    probability: float
    inliers: int | None = None

    @property
    def photos(self) -> set[str]:
        """Both photos."""
        return {self.one, self.other}


def group(pairs: Iterable[Pair]) -> list[list[str]]:
    """Joins photos to groups, the surest pairs first, until no pairs join any two groups.

    Args:
        pairs: pairs that are probable enough; each pair once.

    Returns:
        The groups of at least two photos, the largest first, each sorted by name.
    """
    ordered = sorted(pairs, key=lambda pair: (-pair.probability, -(pair.inliers or 0), pair.one, pair.other))
    group_of: dict[str, frozenset[str]] = {name: frozenset([name]) for pair in ordered for name in pair.photos}
    changed = True
    while changed:
        changed = False
        links: dict[frozenset[frozenset[str]], list[Pair]] = defaultdict(list)
        for pair in ordered:
            first, second = group_of[pair.one], group_of[pair.other]
            if first is second:
                continue
            between = links[frozenset([first, second])]
            between.append(pair)
            if _joins(min(len(first), len(second)), max(len(first), len(second)), between):
                joined = first | second
                group_of |= dict.fromkeys(joined, joined)
                changed = True
    found = {id(some): some for some in group_of.values() if len(some) > 1}
    return sorted((sorted(some) for some in found.values()), key=lambda some: (-len(some), some[0]))


def _joins(smaller: int, larger: int, links: list[Pair]) -> bool:
    """Whether the pairs between two groups join them; the last one is new.

    Args:
        smaller: number of photos of the smaller group.
        larger: number of photos of the larger group.
        links: the pairs.
    """
    if smaller == 1:
        return len(links) >= min(2, larger)
    return any(not links[-1].photos & link.photos for link in links[:-1])
