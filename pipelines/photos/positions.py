"""Reads the positions of photos from their file names, and finds photos that were taken near each other."""

from pathlib import Path, PurePosixPath

import numpy as np

from keras_retrieval.errors import RetrievalError

RADIUS = 25.0
"""The distance in metres up to which two photos count as photos of the same place.

The value is from Torii et al. CVPR 2013 and Arandjelovic et al. CVPR 2016.
"""

# Indices of the fields of a name @east@north@zone@letter@latitude@longitude@panorama@..; field 0 is empty.
_EAST, _NORTH, _PANORAMA = 1, 2, 7


class PositionError(RetrievalError, ValueError):
    """The position of a photo cannot be read, or a coordinate is infinite or not a number."""


def within(queries: np.ndarray, database: np.ndarray, radius: float = RADIUS) -> list[np.ndarray]:
    """Finds the database photos that were taken near each query.

    Args:
        queries: positions of the queries in metres, (Q, 2) east and north, or (Q, 3) east, north and height.
        database: positions of the database photos in metres, (N, 2) or (N, 3), with as many columns as `queries`.
        radius: the largest Euclidean distance in metres; a photo at exactly this distance is included.

    Returns:
        For each query, the row numbers of its near photos in `database` as an integer array in ascending order.
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
    """Reads the position of a photo from its file name, @east@north@zone@letter@latitude@longitude@panorama@..

    East and north are UTM coordinates in metres, and the name has the form that data sets of place recognition use.

    Args:
        path: the path of the photo, relative to `folder`.
        folder: the folder of the photos, which is used in the error message only.

    Returns:
        East and north in metres, and the identifier of the panorama from which the photo was cut, or "" if the name has
        no panorama.

    Raises:
        PositionError: the file name has no position, or the position is not finite.
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
    """Checks that a position is finite.

    Args:
        east: the east coordinate in metres.
        north: the north coordinate in metres.
        panorama: the identifier of the photo's panorama, which is returned unchanged.
        where: the name of the photo or the line of the table, for the error message.

    Returns:
        The tuple (east, north, panorama).

    Raises:
        PositionError: east or north is infinite or not a number.
    """
    if not np.isfinite([east, north]).all():
        raise PositionError(f"{where}: the position {east}, {north} is not finite")
    return east, north, panorama
