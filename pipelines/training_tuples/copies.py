"""Keeps copies of one photo apart in training tuples: they are neither positives nor negatives of each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from ..copies.file import read_groups
from ..copies.find import find_copies
from ..copies.groups import group_numbers
from ..photos.remote_photos import photo_states
from .data import Tuples, TuplesError
from .options import TuplesOptions

CopyGroups = Callable[[Sequence[str]], np.ndarray]
"""Function from names of photos, (n,), to the number of the group of copies of each, (n,) int64; -1 for no group."""

MOST_OBJECTS = 5
"""Copies of one photo that are in more clusters with other photos do not show an object: a placeholder or a logo."""


def no_copies(names: Sequence[str]) -> np.ndarray:
    """The groups of photos that are not compared: no photo has a copy."""
    return np.full(len(names), -1, np.int64)


def copy_groups(options: TuplesOptions, photos: Path | None) -> CopyGroups:
    """Returns the function that finds the copies among the photos of tuples.

    Args:
        options: the options of `tuples`; `copies`, `duplicates` and `accept_truncated` are used.
        photos: folder of the photos, or its address as a path; None if it is unknown, so that only `duplicates` tells
            the copies.

    Raises:
        DuplicatesError: `options.duplicates` cannot be read.
    """
    if options.duplicates is not None:
        groups = read_groups(options.duplicates)
        return lambda names: group_numbers(groups, names)
    if not options.copies or photos is None:
        return no_copies

    known: dict[str, int] = {}

    def find(names: Sequence[str]) -> np.ndarray:
        if not known.keys() >= set(names):
            states = photo_states(photos, names).by_name(names)
            there = {name: state for name, state in states.items() if state[0] != 0}
            copies = find_copies(photos, list(there), accept_truncated=options.accept_truncated, states=there)
            found = copies.group_of(names)
            known.clear()
            known.update(zip(names, found.tolist(), strict=True))
        return np.array([known[name] for name in names], np.int64)

    return find


@dataclass(frozen=True)
class Separated:
    """What was changed in tuples because of copies.

    Attributes:
        photos: number of photos that have a copy.
        groups: number of groups of copies.
        pairs: number of pairs of a query and a positive that were removed.
        links: number of links between clusters that were added.
        everywhere: number of photos whose copies are in more than `MOST_OBJECTS` clusters, which were removed from
            their clusters.
    """

    photos: int
    groups: int
    pairs: int
    links: int
    everywhere: int


def separate_copies(tuples: Tuples, group: np.ndarray) -> tuple[Tuples, Separated]:
    """Makes copies of one photo neither positives nor negatives of each other.

    Pairs of copies are removed. The clusters of copies are linked with each other and with all clusters that one of
    them is linked to, so that a photo is no negative of a query if one of its copies is not. Photos whose copies are in
    more than `MOST_OBJECTS` clusters together with other photos, such as placeholders, are moved to a cluster of their
    own, without pairs: linking their clusters would leave no negatives.

    Args:
        tuples: the tuples, with N photos.
        group: (N,) number of each photo's group of copies, -1 for none.

    Returns:
        The tuples, with the group of each photo as `details["copies"]`, and what was changed.

    Raises:
        TuplesError: no pair is left.
    """
    kept, counts = np.unique(group[group >= 0], return_counts=True)
    group = np.where(np.isin(group, kept[counts > 1]), group, -1)
    if not (group >= 0).any():
        return tuples, Separated(0, 0, 0, 0, 0)
    cluster, everywhere = _without_placeholders(tuples.cluster, group)
    copies = (group[tuples.qidxs] >= 0) & (group[tuples.qidxs] == group[tuples.pidxs])
    wanted = ~copies & ~everywhere[tuples.qidxs] & ~everywhere[tuples.pidxs]
    if not wanted.any() and len(wanted):
        raise TuplesError(
            f"all {len(wanted):,} pairs are of copies of one photo: add other photos, or give --no-copies "
            "if they are no copies"
        )
    links = _links(cluster, group, tuples.same_object)
    details = {
        name: array[wanted] if name in ("shared", "scale_change") else array for name, array in tuples.details.items()
    }
    separated = Separated(
        int((group >= 0).sum()),
        len(np.unique(group[group >= 0])),
        int((~wanted).sum()),
        len(links) - len(tuples.same_object),
        int(everywhere.sum()),
    )
    separate = replace(
        tuples,
        cluster=cluster,
        qidxs=tuples.qidxs[wanted],
        pidxs=tuples.pidxs[wanted],
        same_object=links,
        details=details | {"copies": group.astype(np.int32)},
    )
    return separate, separated


def _without_placeholders(cluster: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves copies in too many clusters to clusters of their own; returns the clusters (N,), and which were moved."""
    cluster, moved = cluster.copy(), np.zeros(len(cluster), bool)
    rows = np.flatnonzero(group >= 0)
    sizes = dict(zip(*(part.tolist() for part in np.unique(cluster, return_counts=True)), strict=True))
    fresh = int(cluster.max()) + 1
    for number in np.unique(group[rows]).tolist():
        own = rows[group[rows] == number]
        numbers, counts = np.unique(cluster[own], return_counts=True)
        shared = sum(sizes[one] > count for one, count in zip(numbers.tolist(), counts.tolist(), strict=True))
        if shared > MOST_OBJECTS:
            cluster[own], moved[own] = fresh, True
            fresh += 1
    return cluster, moved


def _links(cluster: np.ndarray, group: np.ndarray, links: np.ndarray) -> np.ndarray:
    """Returns the links, and those between clusters with copies of a photo and all that these are linked to."""
    beside: dict[int, set[int]] = {}  # clusters that contain copies of a photo of this one, with itself
    found = {(min(pair), max(pair)) for pair in links.tolist()}
    rows = np.flatnonzero(group >= 0)
    for some in np.split(
        rows[np.argsort(group[rows], kind="stable")], np.flatnonzero(np.diff(np.sort(group[rows]))) + 1
    ):
        numbers = np.unique(cluster[some]).tolist()
        for one, other in combinations(numbers, 2):
            beside.setdefault(one, {one}).add(other)
            beside.setdefault(other, {other}).add(one)
    for one, other in [*found, *((one, one) for one in beside)]:
        for left in beside.get(one, {one}):
            found |= {(min(left, right), max(left, right)) for right in beside.get(other, {other}) if left != right}
    added = sorted(found - {tuple(sorted(pair)) for pair in links.tolist()})
    return np.concatenate([links, np.array(added, np.int64).reshape(-1, 2)])
