"""Groups photos by their descriptors: copies of each other, and photos of the same object.

Distances are 1 - cos of two descriptors, half their squared distance after L2 normalisation. What is near depends on
the network: random pairs have a distance of about 0.5 without whitening, and of 1 with it. So the distance of two
photos is divided by the geometric mean of their distances to their 50th neighbours, which gives their *ratio*.
"""

from dataclasses import dataclass

import numpy as np

NEIGHBOUR = 50  # the neighbour whose distance is the scale of a photo's surroundings, in collections of 200 or more
MUTUAL = 10  # photos of one object must be among this many nearest neighbours of each other
OBJECT_RATIO = 0.45
"""Largest ratio of two photos, and of two groups, of one object.

Measured with VGG16-GeM at 320 px. Of the pairs of photos in one stack, as far as the ground truth knows the object of
one of them, 98.7 % (221 of 224) show one object in the 1,098 photos of Oxford Buildings (154 in stacks), and 100 %
(1,030 of 1,030) in 172 photos of 11 scenes (161 in stacks). With descriptors whitened by PCA in two ways it is at least
98.1 %, and in random parts of the two collections, of 10 to 600 photos, at least 95.1 %.
"""

COPY_RATIO = 0.04
"""Largest ratio of two copies.

Measured with the same network on 60 photos of Oxford Buildings: the ratio to a copy of JPEG quality 60, or of three
quarters of the size, is 0.037 in the median and 0.088 at most; that of the most similar photos that are not copies, two
shots of one second, is 0.041. Copies above the limit are in stacks of an object.
"""

SMALLEST_SCALE = 0.01  # so that dozens of identical photos are copies, whose distances are rounding errors
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
    """Groups photos, first copies and then, with these groups, objects.

    Groups grow in the order of increasing ratio (see the module). Two photos join their groups if the ratio of the mean
    distance between the groups is at most 0.04 for copies and 0.45 for objects (average linkage, so that no chain grows
    from one photo to another that is not like it). Two photos of an object must be among the 10 nearest neighbours of
    each other.

    Args:
        neighbours: nearest neighbours of all N photos, k as from `neighbour_count`; the distance of the last one is the
            scale.
        unit_rows: L2-normalised descriptors of those photos that `candidates` returns, (n, S) float32.
        rows_of: the row of each photo in `unit_rows`, (N,) int64; -1 for others.

    Returns:
        The groups, numbered in the order of their first photos.
    """
    near, copies = edges(neighbours)
    linkage = _Linkage(np.sqrt(scales(neighbours)), unit_rows, rows_of)
    linkage.join(copies, COPY_RATIO)
    copy_of = linkage.roots()
    linkage.join(near, OBJECT_RATIO)
    return _numbered(linkage.roots(), copy_of)


def scales(neighbours: Neighbours) -> np.ndarray:
    """Returns the distance of each photo to the last of its neighbours, at least `SMALLEST_SCALE`, (N,) float32."""
    return np.maximum(neighbours.distances[:, -1], SMALLEST_SCALE)


def edges(neighbours: Neighbours) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pairs of photos that may be of one object, and those that may be copies.

    Returns:
        Pairs of mutual neighbours (P, 2), and pairs of copies (C, 2), both int64 and by ascending ratio.
    """
    ids, count, scale = neighbours.ids, len(neighbours.ids), scales(neighbours)
    own = np.broadcast_to(np.arange(count)[:, None], ids.shape)
    ratio = neighbours.distances / np.sqrt(scale[:, None] * scale[np.maximum(ids, 0)])
    copied = (ids >= 0) & (ratio <= COPY_RATIO)
    near = (ids >= 0) & (ratio <= OBJECT_RATIO)
    near[:, MUTUAL:] = False
    near[near] = np.isin(own[near] * count + ids[near], ids[near] * count + own[near])
    near &= own < ids
    near_pairs, copied_pairs = (
        np.stack([own[kept], ids[kept]], axis=1)[np.argsort(ratio[kept], kind="stable")] for kept in (near, copied)
    )
    return near_pairs, copied_pairs


def candidates(neighbours: Neighbours) -> np.ndarray:
    """Returns the row numbers of the photos that have a possible partner, ascending: only theirs are needed."""
    return np.unique(np.concatenate([pairs.ravel() for pairs in edges(neighbours)]))


def neighbour_count(photos: int) -> int:
    """Returns how many neighbours per photo are needed to group this number of photos: a quarter, at most 50."""
    return min(NEIGHBOUR, photos // 4)


class _Linkage:
    """Disjoint groups of photos, of which two are joined if they are near each other on average.

    Args:
        roots_of_scales: square root of the scale of each photo, (N,).
        unit_rows: as for `group`.
        rows_of: as for `group`.
    """

    def __init__(self, roots_of_scales: np.ndarray, unit_rows: np.ndarray, rows_of: np.ndarray) -> None:
        self._parent = np.arange(len(rows_of))
        self._first = roots_of_scales, unit_rows, rows_of
        # Of each group, by its root: the sum of its descriptors, of the square roots of its scales, and its size. The
        # mean distance of two groups, and the mean product of the roots of their scales, follow from these sums.
        self._sums: dict[int, tuple[np.ndarray, float, int]] = {}

    def join(self, pairs: np.ndarray, limit: float) -> None:
        """Joins the groups of each pair of photos whose ratio is at most `limit`; pairs (P, 2) by ascending ratio."""
        for first, second in pairs.tolist():
            a, b = sorted((self._root(first), self._root(second)))
            if a == b:
                continue
            (row_a, root_a, size_a), (row_b, root_b, size_b) = self._facts(a), self._facts(b)
            if 1 - float(row_a @ row_b) / (size_a * size_b) <= limit * root_a * root_b / (size_a * size_b) + 1e-6:
                self._parent[b] = a
                self._sums[a] = row_a + row_b, root_a + root_b, size_a + size_b

    def roots(self) -> np.ndarray:
        """Returns the first photo of each photo's group, (N,) int64."""
        return np.array([self._root(photo) for photo in range(len(self._parent))], np.int64)

    def _facts(self, root: int) -> tuple[np.ndarray, float, int]:
        scale, rows, rows_of = self._first
        return self._sums.get(root) or (rows[rows_of[root]], float(scale[root]), 1)

    def _root(self, photo: int) -> int:
        parent = self._parent
        while parent[photo] != photo:
            parent[photo] = parent[parent[photo]]
            photo = int(parent[photo])
        return photo


def _numbered(root: np.ndarray, copy_of: np.ndarray) -> Groups:
    _, inverse, sizes = np.unique(root, return_inverse=True, return_counts=True)
    large = sizes > 1
    numbers = np.where(large, np.cumsum(large) - 1, -1)
    number = numbers[inverse]
    parts = np.unique(np.stack([number, copy_of], axis=1)[number >= 0], axis=0)
    copies = np.bincount(parts[:, 0], minlength=int(large.sum())) == 1
    return Groups(number.astype(np.int64), copies)
