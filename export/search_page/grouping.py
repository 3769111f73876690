"""Groups photos by their descriptors: copies of each other, and photos of the same object.

Distances are 1 - cos of two descriptors, half their squared distance after L2 normalisation. What is near depends on
the network: random pairs have a distance of about 0.5 without whitening, and of 1 with it. So the distance of two
photos is divided by the geometric mean of their distances to their 50th neighbours, which gives their *ratio*.
"""

from dataclasses import dataclass

import numpy as np

NEIGHBOUR = 50  # the neighbour whose distance is the scale of a photo's surroundings
MUTUAL = 10  # photos of one object must be among this many nearest neighbours of each other
OBJECT_RATIO = 0.45
"""Largest ratio of two photos, and of two groups, of one object.

Measured with VGG16-GeM at 320 px. Of the pairs of photos in one stack, as far as the ground truth knows the object of
one of them, 99.1 % (227 of 229) show one object in the 1,098 photos of Oxford Buildings, of which 154 are in stacks, and
100 % (1,030 of 1,030) in 172 photos of 11 scenes, of which 161 are. With descriptors whitened by PCA in two ways it is
98.1 % or more.
"""

COPY_RATIO = 0.04
"""Largest ratio of two copies.

Measured with the same network on 60 photos of Oxford Buildings: the ratio to a copy of JPEG quality 60, or of three
quarters of the size, is 0.037 in the median and 0.088 at most; that of the most similar photos that are not copies, two
shots of one second, is 0.041. Copies above the limit are in stacks of an object.
"""

SMALLEST = 8  # photos; fewer have no surroundings


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of N photos, without the photos themselves.

    Attributes:
        ids: row numbers, (N, k) int64, by ascending distance; -1 for missing ones.
        distances: 1 - cos, (N, k) float32; inf for missing ones.
    """

    ids: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Groups:
    """Groups of at least two photos.

    Attributes:
        number: number of the group of each photo, (N,) int64; -1 for photos without one.
        copies: whether all photos of a group are copies of each other, bool by number of the group.
    """

    number: np.ndarray
    copies: np.ndarray


def group(neighbours: Neighbours, unit_rows: np.ndarray, rows_of: np.ndarray) -> Groups:
    """Groups photos.

    Two photos are copies if their ratio (see the module) is at most 0.04; copies of copies are one group. Groups of
    copies are then joined to groups of an object in the order of increasing ratio: two photos join their groups if each
    is among the 10 nearest neighbours of the other, their ratio is at most 0.45, and so is the ratio of the mean
    distance between the groups (average linkage, so that no chain of similar photos grows).

    Args:
        neighbours: nearest neighbours of all N photos, k >= `MUTUAL`; the last column is the scale.
        unit_rows: L2-normalised descriptors of those photos that `candidates` returns, (n, S) float32.
        rows_of: the row of each photo in `unit_rows`, (N,) int64; -1 for others.

    Returns:
        The groups, numbered in the order of their first photos.
    """
    count = len(neighbours.ids)
    forest = _Forest(count)
    scale = scales(neighbours)
    near, copies = edges(neighbours, scale)
    for first, second in copies.tolist():
        forest.join(first, second)
    copy_of = forest.roots()
    copied = np.bincount(copy_of, minlength=count) > 1
    # Of each group: the sum of its descriptors, and that of the square roots of its scales.
    members: dict[int, tuple[np.ndarray, float, int]] = {}

    def facts(root: int) -> tuple[np.ndarray, float, int]:
        if root not in members:
            photos = np.flatnonzero(copy_of == root) if copied[root] else np.array([root])
            members[root] = (
                unit_rows[rows_of[photos]].sum(axis=0),
                float(np.sqrt(scale[photos]).sum()),
                len(photos),
            )
        return members[root]

    for first, second in near.tolist():
        a, b = forest.root(first), forest.root(second)
        if a == b:
            continue
        (row_a, root_a, size_a), (row_b, root_b, size_b) = facts(a), facts(b)
        pairs = size_a * size_b
        if 1 - float(row_a @ row_b) / pairs <= OBJECT_RATIO * root_a * root_b / pairs:
            members[forest.join(a, b)] = (row_a + row_b, root_a + root_b, size_a + size_b)
    return _numbered(forest.roots(), copy_of)


def scales(neighbours: Neighbours) -> np.ndarray:
    """Returns the distance of each photo to the last of its neighbours, (N,) float32."""
    return np.maximum(neighbours.distances[:, -1], 1e-6)


def edges(neighbours: Neighbours, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pairs of photos that may be of one object, and those that are copies.

    Returns:
        Pairs of mutual neighbours (P, 2) by ascending ratio, and pairs of copies (C, 2), both int64.
    """
    ids, count = neighbours.ids, len(neighbours.ids)
    own = np.broadcast_to(np.arange(count)[:, None], ids.shape)
    ratio = neighbours.distances / np.sqrt(scale[:, None] * scale[np.maximum(ids, 0)])
    copied = (ids >= 0) & (ratio <= COPY_RATIO)
    copies = np.stack([own[copied], ids[copied]], axis=1)
    near = (ids >= 0) & (ratio <= OBJECT_RATIO)
    near[:, MUTUAL:] = False
    first, second, ratios = own[near], ids[near], ratio[near]
    there = np.isin(first * count + second, second * count + first) & (first < second)
    order = np.argsort(ratios[there], kind="stable")
    return np.stack([first[there], second[there]], axis=1)[order], copies


def candidates(neighbours: Neighbours) -> np.ndarray:
    """Returns the row numbers of the photos that have a possible partner, ascending: only theirs are needed."""
    return np.unique(np.concatenate([pairs.ravel() for pairs in edges(neighbours, scales(neighbours))]))


def neighbour_count(photos: int) -> int:
    """Returns how many neighbours per photo are needed to group this number of photos."""
    return max(MUTUAL, min(NEIGHBOUR, photos // 4))


class _Forest:
    """Disjoint sets of photos."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def root(self, photo: int) -> int:
        parent = self._parent
        while parent[photo] != photo:
            parent[photo] = parent[parent[photo]]
            photo = int(parent[photo])
        return photo

    def join(self, first: int, second: int) -> int:
        """Joins the sets of two photos; returns the root of the new set."""
        a, b = sorted((self.root(first), self.root(second)))
        self._parent[b] = a
        return a

    def roots(self) -> np.ndarray:
        return np.array([self.root(photo) for photo in range(len(self._parent))], np.int64)


def _numbered(root: np.ndarray, copy_of: np.ndarray) -> Groups:
    _, inverse, sizes = np.unique(root, return_inverse=True, return_counts=True)
    large = sizes > 1
    numbers = np.where(large, np.cumsum(large) - 1, -1)
    number = numbers[inverse]
    parts = np.unique(np.stack([number, copy_of], axis=1)[number >= 0], axis=0)
    copies = np.bincount(parts[:, 0], minlength=int(large.sum())) == 1
    return Groups(number.astype(np.int64), copies)
