"""Training tuples from the positions of photos (Arandjelovic et al. CVPR 2016).

Photos taken near each other may show the same place and are potential positives; photos taken far apart are negatives.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..photos.positions import position_in_name, within
from .data import Tuples, TuplesError
from .options import TuplesOptions

EARTH = 6_371_008.8  # mean radius of the earth in metres


def from_names(folder: Path, images: list[str], options: TuplesOptions) -> Tuples:
    """Makes training tuples of photos whose names contain UTM positions, such as @east@north@...@.jpg.

    Args:
        folder: folder of the photos, for error messages.
        images: names of the photos below `folder`.
        options: the options of `tuples`; those of `from_positions` are used.

    Raises:
        PositionError: the name of a photo contains no position.
    """
    positions = [position_in_name(name, folder)[:2] for name in images]
    return from_positions(images, np.array(positions), [str(folder / name) for name in images], options)


def from_positions(images: list[str], positions: np.ndarray, where: Sequence[str], options: TuplesOptions) -> Tuples:
    """Makes training tuples of photos whose positions are known.

    Photos at exactly the same position form a cluster. Clusters at a distance of at most `options.apart` are linked, so
    that only photos beyond this distance are negatives. If some photos are in a top-level folder `database` and others
    in top-level folders whose names begin with `queries`, as in datasets of place recognition, queries are chosen from
    `queries*` only and positives from `database` only. Otherwise every photo may be a query and a positive.

    Args:
        images: names of the N photos.
        positions: coordinates of the photos in metres, (N, 2) or (N, 3).
        where: the origin of each photo for error messages, such as the file and line in which it is listed.
        options: the options of `tuples`; `apart`, `radius` and `positives` are used. The positives of a query are all
            photos within `radius` metres, or the nearest `positives` of them.
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
    """Converts latitude and longitude to 3D coordinates on a spherical earth.

    Straight-line distances between these coordinates are valid everywhere, including at the poles and across the
    longitude of 180 degrees.

    Args:
        degrees: latitude and longitude of each position in degrees, (N, 2).
        where: the origin of each position for error messages, such as the file and line in which it is listed.

    Returns:
        Coordinates in metres, with the centre of the earth as the origin, (N, 3).

    Raises:
        TuplesError: a latitude or longitude is out of range.
    """
    wrong = np.flatnonzero((np.abs(degrees[:, 0]) > 90) | (np.abs(degrees[:, 1]) > 180))
    if len(wrong):
        raise TuplesError(f"{where[wrong[0]]}: latitude must be in -90..90 and longitude in -180..180")
    north, east = np.radians(degrees).T
    return EARTH * np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1)


def _roles(images: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns two masks (N,) bool: the photos that may be queries, and the photos that may be positives."""
    tops = [PurePosixPath(name).parts[0] for name in images]
    queries = np.array([top.startswith("queries") for top in tops], bool)
    database = np.array([top == "database" for top in tops], bool)
    everyone = np.ones(len(images), bool)
    return (queries, database) if queries.any() and database.any() else (everyone, everyone)
