"""Which photos the step `pairs` pairs with which: all with all, queries with a database, or those of a model."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from keras_retrieval.errors import ArgumentError, printable
from keras_retrieval.ranking.nearest import nearest

from ..command.kinds import Reads
from ..command.options import Option, Options
from ..files.name_join import JoinError, PhotoNames, join_rows, some_of
from ..files.remote import address_of, is_folder, named
from ..files.tables import read_lines
from .candidate_pairs import nearest_pairs
from .colmap import Pair
from .errors import ModelError, ReconstructionError
from .models import registered_photos
from .near_photos import Nearness

log = logging.getLogger("keras_retrieval")

_BLOCK = 1 << 24  # similarities that are in memory at a time
_INTRINSICS = re.compile(r"(.+?)\s+[A-Z][A-Z_]+\s+\d+\s+\d+(?:\s+[-+.\deE]+)+\s*")  # hloc's lists of queries
NOT_LISTED = "its name contains white space or begins with #, which a list of pairs cannot contain: rename it"
NOT_CHOSEN = "neither a query nor a photo of the model of --only-model"
NO_PAIR = "no photo is paired with it"


@dataclass(frozen=True, kw_only=True)
class PairedPhotosOptions(Options):
    """The options that choose which photos are paired."""

    queries: Annotated[
        Path | None,
        Option(
            "Pair only these photos, each with the nearest of the others: a folder of photos, inside PHOTOS or "
            "outside, or a text file with the name of a photo of PHOTOS in each line, such as hloc's list of queries "
            "with or without intrinsics. A folder can be at an address (extra cloud).",
            kind=Reads("any", ArgumentError, addresses=True),
        ),
    ] = None
    only_model: Annotated[
        Path | None,
        Option(
            "Pair only photos of PHOTOS that are registered in this COLMAP model, in binary or text format, or in the "
            "models in sub-folders, such as those of `reconstruct`. With --queries, it restricts the others.",
            kind=Reads("folder", ModelError),
        ),
    ] = None


@dataclass(frozen=True)
class PairedPhotos:
    """The photos that are paired.

    Attributes:
        database: the names of the photos with which others are paired, sorted.
        queries: the names of the photos that are paired with those of the database; None if these are paired with
            each other.
        outside: the folder of the queries if it is outside the folder of the photos, else None.
    """

    database: list[str]
    queries: list[str] | None = None
    outside: Path | None = None

    @property
    def names(self) -> list[str]:
        """The names of all photos that may be in a pair."""
        return [*(self.queries or ()), *self.database]

    def listed(self) -> "PairedPhotos":
        """Returns the photos without those whose names a list of pairs cannot contain.

        Raises:
            ReconstructionError: too few photos are left for a pair.
        """
        database = [name for name in self.database if can_be_listed(name)]
        queries = None if self.queries is None else [name for name in self.queries if can_be_listed(name)]
        few = not database or (len(database) < 2 if queries is None else not queries)
        lost = [name for name in self.names if not can_be_listed(name)]
        if few and lost:
            raise ReconstructionError(
                f"no two photos can be paired, because a list of pairs cannot contain names with white space or a "
                f"leading #: rename photos such as {some_of(list(map(printable, lost)))}, or use `reconstruct`, which "
                "encodes such names"
            )
        return replace(self, database=database, queries=queries)


def can_be_listed(name: str) -> bool:
    """Returns whether a list of pairs can contain the name, for COLMAP and for hloc."""
    return not name.startswith("#") and not any(letter.isspace() for letter in name)


def choose_photos(
    options: PairedPhotosOptions, photos: Path, names: Sequence[str], outside: Sequence[str] = ()
) -> PairedPhotos:
    """Chooses the photos that are paired.

    Args:
        options: the options.
        photos: the folder of the photos.
        names: the names of its photos.
        outside: the names of the photos in the folder of the queries, if `is_outside`.

    Raises:
        ArgumentError: the folder or file of the queries does not exist, or the folder contains `photos`.
        ReconstructionError: there is no query or no other photo, or a query outside has the name of a photo.
        JoinError: the list of queries names no photo, or may name several.
        TableError: the list of queries is not text.
        ModelError: the model cannot be read, or none of its images is a photo.
        OSError: a file cannot be read.
    """
    database = list(names)
    queries, apart = None, None
    if options.queries is not None:
        if is_outside(options, photos):
            queries, apart = list(outside), options.queries
            if both := sorted(set(queries) & set(names)):
                raise ReconstructionError(
                    f"the query {named(options.queries)}/{both[0]} and the photo {named(photos)}/{both[0]} have one "
                    "name in the list of pairs: rename one, or move the folder of the queries into that of the photos"
                )
        else:
            queries = _inside(options.queries, photos, names)
            chosen = set(queries)
            database = [name for name in database if name not in chosen]
    if options.only_model is not None:
        registered = set(registered_photos(options.only_model, names))
        database = [name for name in database if name in registered]
    if not database or queries == []:
        what = "query" if queries == [] else "photo beside the queries"
        raise ReconstructionError(
            f"there is no {what} to pair: --queries is {options.queries and named(options.queries)}, PHOTOS "
            f"{named(photos)}" + (f", --only-model {options.only_model}" if options.only_model else "")
        )
    return PairedPhotos(database, queries, apart)


def is_outside(options: PairedPhotosOptions, photos: Path) -> bool:
    """Returns whether the queries are in a folder outside the folder of the photos.

    Raises:
        ArgumentError: the folder or file of the queries does not exist, or the folder contains that of the photos.
    """
    queries = options.queries
    if queries is None:
        return False
    if not is_folder(queries):
        if not queries.exists():
            raise ArgumentError(f"--queries: {queries} does not exist")
        return False
    if _contains(queries, photos):
        raise ArgumentError(
            f"--queries must be another folder than PHOTOS and not contain it, got {named(queries)} for photos in "
            f"{named(photos)}"
        )
    return _below(queries, photos) is None


def _contains(queries: Path, photos: Path) -> bool:
    if address_of(queries) or address_of(photos):
        return _below(photos, queries) is not None
    return photos.resolve().is_relative_to(queries.resolve())


def _below(folder: Path, photos: Path) -> str | None:
    """The path of a folder below that of the photos, also if it is a link to elsewhere; None if it is not below it."""
    here_at, there_at = address_of(folder), address_of(photos)
    if here_at or there_at:
        if not (here_at and there_at and f"{here_at}/".startswith(f"{there_at}/")):
            return None
        return here_at[len(there_at) + 1 :] or "."
    for here, there in ((folder.absolute(), photos.absolute()), (folder.resolve(), photos.resolve())):
        if here.is_relative_to(there):
            return here.relative_to(there).as_posix()
    return None


def _inside(queries: Path, photos: Path, names: Sequence[str]) -> list[str]:
    """The names of the queries among those of the photos."""
    if is_folder(queries):
        return [name for name in names if name.startswith(f"{_below(queries, photos)}/")]
    known = PhotoNames(names)
    exact = frozenset(names)
    entries = [line if line in exact else _without_intrinsics(line) for line in read_lines(queries)]
    if not entries:
        raise JoinError(f"{queries} names no photo: it must have the name of a query in each line")
    join = join_rows(queries, entries, known, lambda row: f"{queries}, entry {row + 1}", repeated=True)
    lost = [entry for entry, photo in zip(entries, join.photos, strict=True) if photo < 0]
    if lost:
        log.warning(f"{queries}: {len(lost):,} of its {len(entries):,} queries are no photo: {some_of(lost)}")
    return sorted({names[photo] for photo in join.photos if photo >= 0})


def _without_intrinsics(line: str) -> str:
    """The name in a line of a list of queries, without the camera that may follow it."""
    camera = _INTRINSICS.fullmatch(line)
    return camera[1] if camera else line.strip()


def choose_pairs(
    paired: PairedPhotos, names: Sequence[str], rows: np.ndarray, k: int, nearness: Nearness | None = None
) -> list[Pair]:
    """Pairs each query with its k nearest photos of the database, or the photos of the database with each other.

    Args:
        paired: the photos that are paired.
        names: the names of the n photos with descriptors.
        rows: the L2-normalised descriptors of these photos, (n, D).
        k: the number of photos with which each photo is paired.
        nearness: the positions of all photos and the distance within which they may be paired, or None.

    Returns:
        The pairs of names. With queries, the query is the first of each pair, and its pairs are together, the most
        similar photo first, as hloc expects; else as `nearest_pairs` returns them.
    """
    row_of = {name: row for row, name in enumerate(names)}
    database = [name for name in paired.database if name in row_of]
    theirs = rows[[row_of[name] for name in database]]
    if paired.queries is None:
        return nearest_pairs(database, theirs, k, nearness and nearness.of(database))
    queries = [name for name in paired.queries if name in row_of]
    if not queries or not database:
        return []
    ours = rows[[row_of[name] for name in queries]]
    found = (
        nearest(ours, theirs, k)[0]
        if nearness is None
        else np.concatenate(list(_nearest_of_near(ours, theirs, k, nearness.of(queries), nearness.of(database))))
    )
    return [
        (query, database[other]) for query, others in zip(queries, found, strict=True) for other in others if other >= 0
    ]


def _nearest_of_near(
    queries: np.ndarray, rows: np.ndarray, k: int, here: Nearness, there: Nearness
) -> Iterator[np.ndarray]:
    """For each block of queries the numbers of their nearest rows within the distance; -1 where there are fewer."""
    size = max(1, _BLOCK // len(rows))
    for start in range(0, len(queries), size):
        block = slice(start, start + size)
        apart = np.hypot.reduce(here.spots[block, None] - there.spots[None], axis=2)
        similarity = np.where(apart > here.radius, -np.inf, queries[block] @ rows.T)
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        yield np.where(np.take_along_axis(similarity, order, axis=1) > -np.inf, order, -1)
