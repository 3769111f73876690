"""positions."""

from pathlib import Path, PurePosixPath

import numpy as np


class PositionError(ValueError):
    """A photo's position cannot be read."""


RADIUS = 25.0
"""Metres within which a photo shows the same place (Torii et al., CVPR 2013; Arandjelovic et al., CVPR 2016)."""

# @ east @ north @ zone @ letter @ latitude @ longitude @ panorama @ ..., and nothing before the first @.
_EAST, _NORTH, _PANORAMA = 1, 2, 7


def within(queries: np.ndarray, database: np.ndarray, radius: float = RADIUS) -> list[np.ndarray]:
    """Which database photos were taken near each query.

    Args:
        queries: (Q, 2) east and north in metres, or (Q, 3) in space.
        database: (N, 2) or (N, 3), the same.
        radius: in metres; a photo at exactly this distance is near.

    Returns:
        Per query the rising rows of `database`.
    """
    order = np.argsort(database[:, 0], kind="stable")
    east = database[order, 0]
    first = np.searchsorted(east, queries[:, 0] - radius, "left")
    last = np.searchsorted(east, queries[:, 0] + radius, "right")
    near = []
    for position, start, end in zip(queries, first, last, strict=True):
        strip = order[start:end]
        distance = np.hypot.reduce(database[strip] - position, axis=1)
        near.append(np.sort(strip[distance <= radius]))
    return near


def position_in_name(path: str, folder: Path) -> tuple[float, float, str]:
    """East and north in metres and the panorama's name, as a photo's name holds them.

    Raises:
        PositionError: it holds none.
    """
    fields = PurePosixPath(path).name.split("@")
    try:
        east, north = float(fields[_EAST]), float(fields[_NORTH])
    except (ValueError, IndexError):
        raise PositionError(
            f"{folder / path}: no position in the name (@east@north@...@.jpg): rename it, or give a CSV file as gnd"
        ) from None
    return checked_position(east, north, fields[_PANORAMA] if len(fields) > _PANORAMA + 1 else "", path)


def checked_position(east: float, north: float, panorama: str, where: str) -> tuple[float, float, str]:
    if not np.isfinite([east, north]).all():
        raise PositionError(f"{where}: the position {east}, {north} is not finite")
    return east, north, panorama
