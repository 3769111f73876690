"""Tuples from the positions of photos: nearby photos may match, distant ones do not (Arandjelovic et al. CVPR 2016)."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..photos.positions import position_in_name, within
from .data import Tuples, TuplesError
from .options import TuplesOptions

EARTH = 6_371_008.8  # metres: the mean radius


def from_names(folder: Path, images: list[str], options: TuplesOptions) -> Tuples:
    """Makes tuples of photos whose names contain UTM positions, @east@north@...@.jpg."""
    positions = [position_in_name(name, folder)[:2] for name in images]
    return from_positions(images, np.array(positions), [str(folder / name) for name in images], options)


def from_positions(images: list[str], positions: np.ndarray, where: Sequence[str], options: TuplesOptions) -> Tuples:
    """Makes tuples of photos whose positions are known.

    Each distinct position is a cluster; clusters within `options.apart` of each other are linked, so that only photos
    beyond that distance are negatives. If the photos are in folders `database` and `queries*`, as in datasets of place
    recognition, queries come from `queries*` only and positives from `database` only; otherwise every photo may be
    both.

    Args:
        images: names of the N photos.
        positions: (N, 2) or (N, 3) coordinates of the photos in metres.
        where: for each photo its origin, such as the file and line that list it, for messages.
        options: the options; the positives of a query are all photos within `radius`, or the nearest `positives` of
            them.
    """
    cluster = np.unique(positions, axis=0, return_inverse=True)[1].reshape(-1)
    near = within(positions, positions, options.apart)
    one, other = np.repeat(np.arange(len(images)), [len(others) for others in near]), np.concatenate([[], *near])
    other = other.astype(np.int64)
    links = np.sort(np.column_stack([cluster[one], cluster[other]]), axis=1)
    links = np.unique(links[links[:, 0] != links[:, 1]], axis=0)
    is_query, is_positive = _roles(images)
    distance = np.hypot.reduce(positions[one] - positions[other], axis=1, initial=0)
    pairs = np.flatnonzero((one != other) & (distance <= options.radius) & is_query[one] & is_positive[other])
    pairs = pairs[np.lexsort((distance[pairs], one[pairs]))]
    if options.positives is not None:
        first = np.searchsorted(one[pairs], one[pairs])  # the first pair of the same query
        pairs = pairs[np.arange(len(pairs)) - first < options.positives]
    return Tuples(images, cluster, one[pairs], other[pairs], links, where=where)


def metres(degrees: np.ndarray, where: Sequence[str]) -> np.ndarray:
    """Converts latitude and longitude to 3D coordinates, so that distances are right everywhere, also across 180°.

    Args:
        degrees: (N, 2) latitude and longitude in degrees.
        where: for each row its origin, such as the file and line that list it, for messages.

    Returns:
        (N, 3) coordinates in metres from the centre of the earth.

    Raises:
        TuplesError: a latitude or longitude is out of range.
    """
    wrong = np.flatnonzero((np.abs(degrees[:, 0]) > 90) | (np.abs(degrees[:, 1]) > 180))
    if len(wrong):
        raise TuplesError(f"{where[wrong[0]]}: latitude must be in -90..90 and longitude in -180..180")
    north, east = np.radians(degrees).T
    return EARTH * np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1)


def _roles(images: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each photo may be a query, and whether it may be a positive, both (N,) bool."""
    tops = [PurePosixPath(name).parts[0] for name in images]
    queries = np.array([top.startswith("queries") for top in tops], bool)
    database = np.array([top == "database" for top in tops], bool)
    everyone = np.ones(len(images), bool)
    return (queries, database) if queries.any() and database.any() else (everyone, everyone)
