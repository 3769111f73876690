"""Training tuples from the positions of photos (Arandjelovic et al. CVPR 2016).

Photos taken near each other may show the same place and are potential positives; photos taken far apart are negatives.
"""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..files.name_join import JoinError
from ..files.tables import TableError
from ..gps.places import heading_difference, read_places
from ..photos.positions import Position, PositionError, common_frame, positions_in_names, within
from .data import Tuples, TuplesError
from .options import TuplesOptions

log = logging.getLogger("keras_retrieval")


def from_names(folder: Path, images: list[str], options: TuplesOptions) -> Tuples:
    """Makes training tuples of photos whose names contain UTM positions, such as @east@north@zone@letter@...@.jpg.

    Args:
        folder: folder of the photos, for error messages.
        images: names of the photos below `folder`.
        options: the options of `tuples`; those of `from_positions` are used.

    Raises:
        PositionError: the name of a photo contains no position, or the positions cannot be compared.
    """
    positions = positions_in_names(images, folder)
    return from_positions(images, positions, [str(folder / name) for name in images], options)


def from_places(folder: Path, images: list[str], options: TuplesOptions) -> Tuples:
    """Makes training tuples of photos by the source of positions `options.positions`, "exif" or a table.

    Photos without a position are left out and reported to the log.

    Args:
        folder: folder of the photos.
        images: names of the photos below `folder`.
        options: the options of `tuples`; those of `from_positions` are used.

    Raises:
        TuplesError: the table does not exist or is invalid, no photo has a position, or the positions cannot be
            compared.
    """
    assert options.positions is not None
    try:
        places = read_places(options.positions, folder, images)
        (log.info if len(places.rows) == len(images) else log.warning)(places.account)
        located = [images[row] for row in places.rows]
        return from_positions(located, places.positions, places.where, options, places.headings)
    except (JoinError, PositionError, TableError) as error:
        raise TuplesError(str(error)) from error


def from_positions(
    images: list[str],
    positions: Sequence[Position],
    where: Sequence[str],
    options: TuplesOptions,
    headings: np.ndarray | None = None,
) -> Tuples:
    """Makes training tuples of photos whose positions are known.

    Photos at exactly the same position form a cluster. Clusters at a distance of at most `options.apart` are linked, so
    that only photos beyond this distance are negatives. If some photos are in a top-level folder `database` and others
    in top-level folders whose names begin with `queries`, as in datasets of place recognition, queries are chosen from
    `queries*` only and positives from `database` only. Otherwise every photo may be a query and a positive.

    Args:
        images: names of the N photos.
        positions: the positions of the photos.
        where: the origin of each photo for error messages, such as the file and line in which it is listed.
        options: the options of `tuples`; `apart`, `radius`, `heading` and `positives` are used. The positives of a
            query are all photos within `radius` metres, or the nearest `positives` of them; with `heading`, only those
            whose heading differs by at most this angle from that of the query.
        headings: (N,) directions of the cameras in degrees clockwise from north, NaN where it is not known. With
            `options.heading`, a photo without one is neither a query nor a positive.

    Raises:
        PositionError: the positions cannot be compared, see `common_frame`.
        TuplesError: `options.heading` is given, and no photo has a heading.
    """
    spots = common_frame(positions, where)
    cluster = np.unique(spots, axis=0, return_inverse=True)[1].reshape(-1)
    near = within(spots, spots, options.apart)
    one, other = np.repeat(np.arange(len(images)), [len(others) for others in near]), np.concatenate([[], *near])
    other = other.astype(np.int64)
    links = np.sort(np.column_stack([cluster[one], cluster[other]]), axis=1)
    links = np.unique(links[links[:, 0] != links[:, 1]], axis=0)
    is_query, is_positive = _roles(images)
    distance = np.hypot.reduce(spots[one] - spots[other], axis=1, initial=0)
    pairs = np.flatnonzero((one != other) & (distance <= options.radius) & is_query[one] & is_positive[other])
    if options.heading is not None:
        facing = _known_headings(headings, len(images), options.heading)
        pairs = pairs[heading_difference(facing[one[pairs]], facing[other[pairs]]) <= options.heading]
    pairs = pairs[np.lexsort((distance[pairs], one[pairs]))]
    if options.positives is not None:
        first = np.searchsorted(one[pairs], one[pairs])  # the first pair of the same query
        pairs = pairs[np.arange(len(pairs)) - first < options.positives]
    return Tuples(images, cluster, one[pairs], other[pairs], links, where=where)


def _known_headings(headings: np.ndarray | None, count: int, limit: float) -> np.ndarray:
    """Returns the headings (N,), and reports photos without one to the log.

    Raises:
        TuplesError: no photo has a heading.
    """
    known = 0 if headings is None else np.count_nonzero(~np.isnan(headings))
    if headings is None or not known:
        raise TuplesError(
            f"--heading {limit:g}: none of {count:,} photos has a heading: add a column heading to the table of "
            "positions, or leave the option out"
        )
    if known < count:
        log.warning(
            f"{count - known:,} of {count:,} photos have no heading: with --heading they are neither queries nor "
            "positives"
        )
    return headings


def _roles(images: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns two masks (N,) bool: the photos that may be queries, and the photos that may be positives."""
    tops = [PurePosixPath(name).parts[0] for name in images]
    queries = np.array([top.startswith("queries") for top in tops], bool)
    database = np.array([top == "database" for top in tops], bool)
    everyone = np.ones(len(images), bool)
    return (queries, database) if queries.any() and database.any() else (everyone, everyone)
