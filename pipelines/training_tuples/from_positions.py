"""Training tuples from the positions of photos (Arandjelovic et al. CVPR 2016).

Photos taken near each other may show the same place and are potential positives; photos taken far apart are negatives.
"""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..files.name_join import JoinError
from ..files.remote import named
from ..files.tables import TableError
from ..gps.photo_positions import read_places
from ..photos.object_folders import splits
from ..photos.positions import (
    Position,
    PositionError,
    common_frame,
    heading_difference,
    positions_in_names,
    within,
)
from .cells import cells_of, groups_of
from .copies import CopyGroups, no_copies
from .data import Tuples, TuplesError, without
from .options import TuplesOptions

log = logging.getLogger("keras_retrieval")


def from_names(folder: Path, images: list[str], options: TuplesOptions, copies: CopyGroups = no_copies) -> Tuples:
    """Makes training tuples of photos whose names contain UTM positions, such as @east@north@zone@letter@...@.jpg.

    If a whole level of folders is named train, val, test or alike, photos of val are set aside for validation, and
    those of test are left out.

    Args:
        folder: folder of the photos, for error messages.
        images: names of the photos below `folder`.
        options: the options of `tuples`; those of `from_positions` are used.
        copies: finds copies of photos, which are not chosen as positives of each other where positives are chosen.

    Raises:
        PositionError: the name of a photo contains no position, or the positions cannot be compared.
    """
    images, validation = _by_split(images, folder)
    positions = positions_in_names(images, folder)
    where = [f"{named(folder)}/{name}" for name in images]
    headings = np.array([_heading(name) for name in images], float)
    groups = np.zeros(len(images), bool) if validation is None else validation
    is_query, is_positive = np.zeros((2, len(images)), bool)
    for group in (groups, ~groups):  # a split may have queries and a database while another has not
        rows = np.flatnonzero(group)
        is_query[rows], is_positive[rows] = _roles([images[row] for row in rows])
    spots = common_frame(positions, where)
    return from_spots(images, spots, where, options, (is_query, is_positive), headings, validation, copies)


def _by_split(images: list[str], folder: Path) -> tuple[list[str], np.ndarray | None]:
    """Returns the photos without those of a test, and a mask of those set aside, if folders are named train, val .."""
    split = splits(images)
    training = {name for name, one in split.items() if one.lower().startswith("train")}
    if not training or len(training) == len(images):
        return images, None
    aside = {name for name, one in split.items() if one.lower().startswith(("val", "dev"))}
    kept = [name for name in images if name in training or name in aside]
    log.info(
        f"{named(folder)}: of the folders of splits, {len(training):,} photos to train on, {len(aside):,} set aside "
        f"for validation, and {len(images) - len(kept):,} of a test left out"
    )
    return kept, np.array([name in aside for name in kept], bool) if aside else None


def _heading(name: str) -> float:
    """The heading in a name @east@north@zone@letter@latitude@longitude@panorama@tile@heading@.., or NaN."""
    fields = PurePosixPath(name).name.split("@")
    try:
        return float(fields[9])
    except (ValueError, IndexError):
        return float("nan")


def from_places(folder: Path, images: list[str], options: TuplesOptions, copies: CopyGroups = no_copies) -> Tuples:
    """Makes training tuples of photos by the source of positions `options.positions`, "exif" or a table.

    Photos without a position are left out and reported to the log.

    Args:
        folder: folder of the photos.
        images: names of the photos below `folder`.
        options: the options of `tuples`; those of `from_positions` are used.
        copies: finds copies of photos, which are not chosen as positives of each other where positives are chosen.

    Raises:
        TuplesError: the table does not exist or is invalid, no photo has a position, or the positions cannot be
            compared.
    """
    assert options.positions is not None
    try:
        places = read_places(options.positions, folder, images)
        (log.info if len(places.rows) == len(images) else log.warning)(places.account)
        located = [images[row] for row in places.rows]
        return from_positions(located, places.positions, places.where, options, places.headings, copies)
    except (JoinError, PositionError, TableError) as error:
        raise TuplesError(str(error)) from error


def from_positions(
    images: list[str],
    positions: Sequence[Position],
    where: Sequence[str],
    options: TuplesOptions,
    headings: np.ndarray | None = None,
    copies: CopyGroups = no_copies,
) -> Tuples:
    """Makes training tuples of photos whose positions are known.

    With `options.cells`, the clusters are cells and intervals of headings, see the module `cells`. Otherwise photos at
    exactly the same position form a cluster. Clusters at a distance of at most `options.apart` are linked, so
    that only photos beyond this distance are negatives. If some photos are in a folder `database` and others in
    folders whose names begin with `queries`, as in datasets of place recognition, queries are chosen from `queries*`
    only and positives from `database` only. Otherwise every photo may be a query and a positive.

    Args:
        images: names of the N photos.
        positions: the positions of the photos.
        where: the origin of each photo for error messages, such as the file and line in which it is listed.
        options: the options of `tuples`; `apart`, `radius`, `heading` and `positives` are used. The positives of a
            query are all photos within `radius` metres, or the nearest `positives` of them; with `heading`, only those
            whose heading differs by at most this angle from that of the query.
        headings: (N,) directions of the cameras in degrees clockwise from north, NaN where it is not known. With
            `options.heading`, a photo without one is neither a query nor a positive.
        copies: finds copies of photos, which are not chosen as positives of each other where positives are chosen.

    Raises:
        PositionError: the positions cannot be compared, see `common_frame`.
        TuplesError: `options.heading` is given, and no photo has a heading.
    """
    return from_spots(images, common_frame(positions, where), where, options, _roles(images), headings, copies=copies)


def from_spots(
    images: list[str],
    spots: np.ndarray,
    where: Sequence[str],
    options: TuplesOptions,
    roles: tuple[np.ndarray, np.ndarray],
    headings: np.ndarray | None = None,
    validation: np.ndarray | None = None,
    copies: CopyGroups = no_copies,
) -> Tuples:
    """Makes training tuples of photos whose coordinates are known; see `from_positions`.

    Args:
        images: names of the N photos.
        spots: coordinates in metres, (N, 2) or (N, 3).
        where: the origin of each photo for error messages.
        options: the options of `tuples`, as for `from_positions`.
        roles: two masks (N,) bool: the photos that may be queries, and those that may be positives.
        headings: headings in degrees, (N,), NaN if unknown; None if all are unknown.
        validation: mask (N,) bool of the photos that are set aside for validation, which are in no pair with others;
            None if photos are not split yet.
        copies: finds copies of photos, which are not chosen as positives of each other where positives are chosen.

    Raises:
        TuplesError: `options.heading` is given, and no heading is known.
    """
    apart = spots if validation is None else np.column_stack([spots, validation])
    cluster = np.unique(apart, axis=0, return_inverse=True)[1].reshape(-1)
    near = within(spots, spots, options.apart)
    one, other = np.repeat(np.arange(len(images)), [len(others) for others in near]), np.concatenate([[], *near])
    other = other.astype(np.int64)
    links = np.sort(np.column_stack([cluster[one], cluster[other]]), axis=1)
    links = np.unique(links[links[:, 0] != links[:, 1]], axis=0)
    details = {}
    if options.cells is not None:
        cells = cells_of(spots, headings, options.cells, options.cell_heading, groups_of(options.cell_groups))
        cluster, links, details = cells.cluster, cells.links, {"group": cells.group}
        if validation is not None:
            cluster, links = _on_one_side(cluster, links, validation)
    is_query, is_positive = roles
    distance = np.hypot.reduce(spots[one] - spots[other], axis=1, initial=0)
    pairs = np.flatnonzero((one != other) & (distance <= options.radius) & is_query[one] & is_positive[other])
    if options.heading is not None:
        facing = _known_headings(headings, len(images), options.heading)
        pairs = pairs[heading_difference(facing[one[pairs]], facing[other[pairs]]) <= options.heading]
    if options.cells is not None:
        pairs = pairs[cluster[one[pairs]] == cluster[other[pairs]]]
    if validation is not None:
        pairs = pairs[validation[one[pairs]] == validation[other[pairs]]]
    pairs = pairs[np.lexsort((distance[pairs], one[pairs]))]
    if options.positives is not None:
        own = copies(images)
        pairs = pairs[(own[one[pairs]] < 0) | (own[one[pairs]] != own[other[pairs]])]
        first = np.searchsorted(one[pairs], one[pairs])  # the first pair of the same query
        pairs = pairs[np.arange(len(pairs)) - first < options.positives]
    made = Tuples(images, cluster, one[pairs], other[pairs], links, validation, details=details, where=where)
    if options.cell_heading is None:
        return made
    unknown = np.isnan(_known_headings(headings, len(images), options.cell_heading, "--cell-heading"))
    return without(made, unknown) if unknown.any() else made


def _on_one_side(cluster: np.ndarray, links: np.ndarray, validation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divides classes that are on both sides of a split, and links each part to what the class is linked to."""
    parts, divided = np.unique(np.column_stack([cluster, validation]), axis=0, return_inverse=True)
    of_class: dict[int, list[int]] = {}
    for part, number in enumerate(parts[:, 0].tolist()):
        of_class.setdefault(number, []).append(part)
    pairs = [*links.tolist(), *((number, number) for number in of_class)]
    found = {
        (min(left, right), max(left, right))
        for one, other in pairs
        for left in of_class[one]
        for right in of_class[other]
        if left != right
    }
    return divided.reshape(-1), np.array(sorted(found), np.int64).reshape(-1, 2)


def _known_headings(headings: np.ndarray | None, count: int, limit: float, option: str = "--heading") -> np.ndarray:
    """Returns the headings (N,), and reports photos without one to the log.

    Raises:
        TuplesError: no photo has a heading.
    """
    known = 0 if headings is None else np.count_nonzero(~np.isnan(headings))
    if headings is None or not known:
        raise TuplesError(
            f"{option} {limit:g}: none of {count:,} photos has a heading: add a column heading to the table of "
            "positions, or leave the option out"
        )
    if known < count:
        log.warning(
            f"{count - known:,} of {count:,} photos have no heading: with {option} they are "
            f"{'neither queries nor positives' if option == '--heading' else 'left out'}"
        )
    return headings


def _roles(images: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns two masks (N,) bool: the photos that may be queries, and the photos that may be positives."""
    folders = [PurePosixPath(name).parts[:-1] for name in images]
    queries = np.array([any(part.startswith("queries") for part in parts) for parts in folders], bool)
    database = np.array(["database" in parts for parts in folders], bool)
    everyone = np.ones(len(images), bool)
    return (queries, database) if queries.any() and database.any() else (everyone, everyone)
