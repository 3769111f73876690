"""Restricts candidate pairs to photos that were taken near each other, where their positions are known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..command.options import Option, Options
from ..gps.distance import metres
from ..gps.photo_positions import positions_source, read_places
from ..photos.positions import common_frame, within
from .colmap import Pair

_BLOCK = 256  # photos whose similarities to all others are in memory at a time


@dataclass(frozen=True, kw_only=True)
class NearOptions(Options):
    """The options that restrict candidate pairs by distance."""

    near: Annotated[
        str | None,
        Option(
            "Pair only photos that were taken within this distance of each other, such as 50m or 1.5km. A photo "
            "without a position may still be paired with any photo."
        ),
    ] = None
    positions: Annotated[
        str | None,
        Option(
            "Positions for --near: exif for the GPS positions in the photos' metadata, which is the default, or a "
            "table as written by `positions`.",
            kind=positions_source,
        ),
    ] = None

    def check(self) -> None:
        """Checks that the distance is one, and that positions are given only with a distance.

        Raises:
            ArgumentError: an option is out of range, `near` is not a distance, or `positions` is given without `near`.
        """
        super().check()
        if self.near is not None:
            metres(self.near, "--near")
        elif self.positions is not None:
            raise ArgumentError("--positions needs --near, the distance within which photos are paired")


@dataclass(frozen=True)
class Nearness:
    """The positions of photos, and the distance within which photos may be paired.

    Attributes:
        names: the names of the n photos.
        spots: (n, 2) or (n, 3) coordinates in metres; a row of NaN for a photo without a position.
        radius: the largest distance of a pair in metres.
        account: the numbers of photos with and without a position, as a line of text.
    """

    names: Sequence[str]
    spots: np.ndarray
    radius: float
    account: str = ""

    def of(self, names: Sequence[str]) -> "Nearness":
        """Returns the positions of some of the photos, in the order of `names`."""
        row = {name: row for row, name in enumerate(self.names)}
        return Nearness(names, self.spots[[row[name] for name in names]], self.radius, self.account)

    def keep(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Returns the pairs that are near each other, or of which a photo has no position."""
        pairs = list(pairs)
        row = {name: row for row, name in enumerate(self.names)}
        ends = np.array([(row[one], row[other]) for one, other in pairs], np.int64).reshape(-1, 2)
        far = np.hypot.reduce(self.spots[ends[:, 0]] - self.spots[ends[:, 1]], axis=1) > self.radius
        return [pair for pair, is_far in zip(pairs, far.tolist(), strict=True) if not is_far]


def read_nearness(options: NearOptions, photos: Path, names: Sequence[str]) -> Nearness | None:
    """Reads the positions of photos for the option `near`.

    Args:
        options: the options.
        photos: the folder of the photos.
        names: the names of the photos.

    Returns:
        The positions; None without the option.

    Raises:
        PositionError: the table of positions does not exist or has an invalid row, no photo has a position, or the
            positions cannot be compared.
        TableError: the file of positions is not a table, or lacks columns.
        JoinError: a row may name several photos, two rows name one photo, or no row names a photo.
    """
    if options.near is None:
        return None
    places = read_places(options.positions or "exif", photos, names)
    located = common_frame(places.positions, places.where)
    spots = np.full((len(names), located.shape[1]), np.nan)
    spots[places.rows] = located
    without = len(names) - len(places.rows)
    rule = f"; {without:,} photos without a position are paired by descriptors alone" if without else ""
    return Nearness(names, spots, metres(options.near, "--near"), f"{places.account}{rule}")


def nearest_of_near(rows: np.ndarray, k: int, nearness: Nearness) -> np.ndarray:
    """Finds for each photo the k most similar of the photos with which it may be paired.

    Args:
        rows: L2-normalised descriptors of the n photos, (n, D), without NaN.
        k: the number of neighbours for each photo.
        nearness: the positions of the same n photos.

    Returns:
        Row numbers of the neighbours, (n, min(k, n - 1)) int64, most similar first; -1 where a photo may be paired with
        fewer photos.
    """
    count = len(rows)
    width = min(k, count - 1)
    has_position = ~np.isnan(nearness.spots).any(axis=1)
    located = np.flatnonzero(has_position)
    found = np.full((count, width), -1, np.int64)
    for start in range(0, count, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, count))
        allowed = np.ones((len(block), count), bool)
        placed = np.flatnonzero(has_position[block])
        allowed[np.ix_(placed, located)] = False
        near = within(nearness.spots[block[placed]], nearness.spots[located], nearness.radius)
        for row, others in zip(placed.tolist(), near, strict=True):
            allowed[row, located[others]] = True
        allowed[np.arange(len(block)), block] = False
        similarity = np.where(allowed, rows[block] @ rows.T, -np.inf)
        best = np.argpartition(-similarity, width - 1, axis=1)[:, :width] if width else found[block]
        best.sort(axis=1)
        value = np.take_along_axis(similarity, best, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        found[block] = np.where(np.take_along_axis(value, order, axis=1) > -np.inf, best, -1)
    return found
