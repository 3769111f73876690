"""Positions of photos: read from their names, and compared by distance."""

from pathlib import Path, PurePosixPath

import numpy as np

from keras_retrieval.errors import RetrievalError

RADIUS = 25.0
"""Metres within which two photos show the same place (Torii et al. CVPR 2013; Arandjelovic et al. CVPR 2016)."""

# The fields of a name: @east@north@zone@letter@latitude@longitude@panorama@.., of which the first is empty.
_EAST, _NORTH, _PANORAMA = 1, 2, 7


class PositionError(RetrievalError, ValueError):
    """The position of a photo cannot be read, or is not finite."""


def within(queries: np.ndarray, database: np.ndarray, radius: float = RADIUS) -> list[np.ndarray]:
    """Finds the database photos that were taken near each query.

    Args:
        queries: positions of the queries, (Q, 2) east and north in metres, or (Q, 3) with the height.
        database: positions of the database photos, (N, 2) or (N, 3), likewise.
        radius: the radius in metres; a photo at exactly this distance counts.

    Returns:
        For each query, the row numbers of the near photos in `database`, in ascending order.
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
    """Reads the position in a photo's name, @east@north@zone@letter@latitude@longitude@panorama@..

    Args:
        path: the path of the photo, relative to the folder.
        folder: the folder of the photos, for the message.

    Returns:
        East and north in metres, and the name of the panorama that the photo was cut from, which is "" if there is
        none.

    Raises:
        PositionError: the name has no position.
    """
    fields = PurePosixPath(path).name.split("@")
    try:
        east, north = float(fields[_EAST]), float(fields[_NORTH])
    except (ValueError, IndexError):
        raise PositionError(
            f"{folder / path}: no position in the name (@east@north@...@.jpg): rename it, or list positions in a CSV "
            "file (--gnd)"
        ) from None
    return checked_position(east, north, fields[_PANORAMA] if len(fields) > _PANORAMA + 1 else "", path)


def checked_position(east: float, north: float, panorama: str, where: str) -> tuple[float, float, str]:
    """Checks that a position is finite, and returns the first three arguments.

    Args:
        east: the distance to the east in metres.
        north: the distance to the north in metres.
        panorama: the name of the panorama.
        where: the photo or line, for the message.

    Raises:
        PositionError: east or north is not finite.
    """
    if not np.isfinite([east, north]).all():
        raise PositionError(f"{where}: the position {east}, {north} is not finite")
    return east, north, panorama
