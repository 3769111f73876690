"""Tuples from where photos were taken: near ones may match, far ones do not (Arandjelovic et al. CVPR 2016)."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..photos.positions import spot_in_name, within
from .file import Choice, Tuples, TuplesError

EARTH = 6_371_008.8  # metres: the mean radius


def from_names(folder: Path, images: list[str], choice: Choice) -> Tuples:
    """Photos with UTM positions in their names, @east@north@...@.jpg."""
    positions = [spot_in_name(name, folder)[:2] for name in images]
    return from_positions(images, np.array(positions), [str(folder / name) for name in images], choice)


def from_positions(images: list[str], positions: np.ndarray, where: Sequence[str], choice: Choice) -> Tuples:
    """Clusters are spots, of which those within `choice.apart` of each other are linked.

    So all photos beyond that distance are negatives. Where photos lie in the folders `database` and `queries*`, as the
    datasets of places have them, the second ask and the first answer; else each photo does both.

    Args:
        images: names of photos.
        positions: (N, 2) or (N, 3), in metres.
        where: each was read, for messages.
        choice: the positives of a query are all photos within `radius`, or the nearest of them.
    """
    cluster = np.unique(positions, axis=0, return_inverse=True)[1].reshape(-1)
    near = within(positions, positions, choice.apart)
    one, other = np.repeat(np.arange(len(images)), [len(others) for others in near]), np.concatenate([[], *near])
    other = other.astype(np.int64)
    links = np.sort(np.column_stack([cluster[one], cluster[other]]), axis=1)
    links = np.unique(links[links[:, 0] != links[:, 1]], axis=0)
    asks, answers = _roles(images)
    distance = np.hypot.reduce(positions[one] - positions[other], axis=1, initial=0)
    pairs = np.flatnonzero((one != other) & (distance <= choice.radius) & asks[one] & answers[other])
    pairs = pairs[np.lexsort((distance[pairs], one[pairs]))]
    if choice.positives is not None:
        first = np.searchsorted(one[pairs], one[pairs])  # of the query's
        pairs = pairs[np.arange(len(pairs)) - first < choice.positives]
    return Tuples(images, cluster, one[pairs], other[pairs], links, where=where)


def metres(degrees: np.ndarray, where: Sequence[str]) -> np.ndarray:
    """Latitude and longitude as metres (n, 3) from the middle of the earth, right in every city and across 180°."""
    wrong = np.flatnonzero((np.abs(degrees[:, 0]) > 90) | (np.abs(degrees[:, 1]) > 180))
    if len(wrong):
        raise TuplesError(f"{where[wrong[0]]}: latitude must lie in -90..90 and longitude in -180..180")
    north, east = np.radians(degrees).T
    return EARTH * np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1)


def _roles(images: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which photos ask, and which answer."""
    tops = [PurePosixPath(name).parts[0] for name in images]
    asks = np.array([top.startswith("queries") for top in tops], bool)
    answers = np.array([top == "database" for top in tops], bool)
    everyone = np.ones(len(images), bool)
    return (asks, answers) if asks.any() and answers.any() else (everyone, everyone)
