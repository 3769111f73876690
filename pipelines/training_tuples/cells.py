"""Classes of photos from their positions and headings, as CosPlace makes them (Berton, Masone, Caputo, CVPR 2022).

A class is the photos in a square cell of M metres whose headings are in one interval of alpha degrees. The classes are
divided into groups, so that two classes of a group are at least N - 1 cells or L - 1 intervals apart: neighbours, which
may show the same place, are never in one group.
"""

import re
from dataclasses import dataclass

import numpy as np

from keras_retrieval.errors import ArgumentError

from .data import TuplesError

_REGION = 500_000.0  # metres from the middle up to which a plane is a good map


@dataclass(frozen=True)
class Cells:
    """Classes of N photos.

    Attributes:
        cluster: (N,) number of each photo's class.
        group: (N,) int32 number of the group of each photo's class.
        links: (M, 2) pairs of classes that are neighbours: fewer than N cells and L intervals apart.
    """

    cluster: np.ndarray
    group: np.ndarray
    links: np.ndarray


def groups_of(text: str) -> tuple[int, int]:
    """Reads numbers of groups, such as (5, 2) of "5x2".

    Raises:
        ArgumentError: the text has another form, or a number is not in 1..1000.
    """
    found = re.fullmatch(r"([0-9]{1,4})[xX]([0-9]{1,4})", text.strip())
    if not found or not all(1 <= int(number) <= 1000 for number in found.groups()):
        raise ArgumentError(f"--cell-groups must be two numbers from 1, such as 5x2, got {text!r}")
    return int(found[1]), int(found[2])


def intervals(angle: float, groups: int) -> int:
    """Returns the number of intervals of headings in a full turn.

    Args:
        angle: size of an interval in degrees.
        groups: number L of groups along the headings.

    Raises:
        ArgumentError: the intervals do not fill a full turn, or their number is no multiple of L.
    """
    count = round(360 / angle)
    if abs(count * angle - 360) > 1e-6 or count % groups:
        raise ArgumentError(
            f"--cell-heading must divide 360 degrees into a multiple of {groups} intervals, got {angle:g}: give 30, 45 "
            "or 60, or other --cell-groups"
        )
    return count


def cells_of(
    spots: np.ndarray, headings: np.ndarray | None, side: float, angle: float | None, groups: tuple[int, int]
) -> Cells:
    """Divides photos into classes by their positions and headings.

    Args:
        spots: (N, 2) metres east and north, or (N, 3) metres from the centre of the earth.
        headings: (N,) headings in degrees clockwise from north; needed if `angle` is given.
        side: side M of a cell, in metres.
        angle: size alpha of an interval of headings, in degrees; None for classes by position only.
        groups: the numbers N and L of groups along each axis and along the headings.

    Raises:
        TuplesError: positions in degrees are too far apart for one plane.
        ArgumentError: `angle` does not divide a full turn as needed.
    """
    along, turns = groups
    count = intervals(angle, turns) if angle is not None else 1
    turns = turns if angle is not None else 1
    cells = np.floor(plane_of(spots) / side).astype(np.int64)
    turn = np.zeros(len(cells), np.int64)
    if angle is not None and headings is not None:
        turn = np.floor(np.nan_to_num(headings) % 360 / angle).astype(np.int64) % count
    keys, cluster = np.unique(np.column_stack([cells, turn]), axis=0, return_inverse=True)
    cluster = cluster.reshape(-1)
    east, north, turn = keys.T
    group = ((east % along) * along + north % along) * turns + turn % turns
    return Cells(cluster, group[cluster].astype(np.int32), _neighbours(keys, along, turns, count))


def plane_of(spots: np.ndarray) -> np.ndarray:
    """Returns metres east and north, (N, 2): of points in space, on the plane that touches the earth in their middle.

    Raises:
        TuplesError: points in space are more than 500 km from their middle.
    """
    if spots.shape[1] == 2 or not len(spots):
        return spots[:, :2]
    middle = np.median(spots, axis=0)
    up = middle / np.linalg.norm(middle)
    if np.linalg.norm(spots - middle, axis=1).max() > _REGION:
        raise TuplesError(
            "--cells needs photos of one region, and some are more than 500 km from the middle of the others: make "
            "tuples of each region"
        )
    east = np.cross([0.0, 0.0, 1.0], up)
    east = east / np.linalg.norm(east) if np.linalg.norm(east) > 1e-9 else np.array([1.0, 0.0, 0.0])
    return (spots - middle) @ np.stack([east, np.cross(up, east)], axis=1)


def _neighbours(keys: np.ndarray, along: int, turns: int, count: int) -> np.ndarray:
    """Returns the pairs of classes, given by cell and interval (C, 3), that are fewer steps apart than the groups."""
    at: dict[tuple[int, int], list[int]] = {}
    for number, (east, north) in enumerate(keys[:, :2].tolist()):
        at.setdefault((east, north), []).append(number)
    steps = range(1 - along, along)
    around = [(east, north) for east in steps for north in steps if (east, north) >= (0, 0)]
    turn, links = keys[:, 2].tolist(), []
    for (east, north), own in at.items():
        for moved_east, moved_north in around:
            others = at.get((east + moved_east, north + moved_north), ())
            for one in own:
                for other in others:
                    apart = abs(turn[one] - turn[other])
                    if one != other and min(apart, count - apart) < turns:
                        links.append((min(one, other), max(one, other)))
    return np.unique(np.array(links, np.int64).reshape(-1, 2), axis=0)
