"""Consistency checks of training tuples: array lengths, indexes, photo names, pairs and lists of negatives."""

import logging
from pathlib import Path, PurePosixPath

import numpy as np

from keras_retrieval.errors import printable

from ..files.remote import MissingFileError, named, remote_folder
from ..files.stored_path import stored_path
from .data import Tuples, TuplesError

log = logging.getLogger("keras_retrieval")

_LISTED = 5  # missing photos that a message names


def check(tuples: Tuples, photos: Path | None = None, *, skip_missing: bool = False) -> np.ndarray:
    """Checks the consistency that training assumes of training tuples.

    Args:
        tuples: the tuples to check, from any source.
        photos: folder, or its address, in which the photos of the tuples must exist; None skips this check.
        skip_missing: whether photos that do not exist are logged. Otherwise they are an error, unless none exists.

    Returns:
        A mask of the photos that do not exist, (N,) bool; all False if `photos` is None.

    Raises:
        TuplesError: there are no photos or pairs; arrays differ in length; an index is out of range; a photo is listed
            twice, does not exist in `photos`, or is its own positive or negative; the name of a photo is not a path
            inside the folder of the photos; or the query and the positive of a pair are in different clusters that are
            not linked.
    """
    count = len(tuples.images)
    if not count or not len(tuples.qidxs):
        raise TuplesError(f"there are {count} photos and {len(tuples.qidxs)} pairs: nothing to learn from")
    if len(tuples.cluster) != count:
        raise TuplesError(f"{count} photos have {len(tuples.cluster)} clusters: there must be one for each")
    if len(tuples.qidxs) != len(tuples.pidxs):
        raise TuplesError(f"{len(tuples.qidxs)} queries have {len(tuples.pidxs)} positives: there must be as many")
    for name, indexes in (("query", tuples.qidxs), ("positive", tuples.pidxs)):
        wrong = np.flatnonzero((indexes < 0) | (indexes >= count))
        if len(wrong):
            raise TuplesError(f"pair {wrong[0]}: its {name} {indexes[wrong[0]]} is not an index in 0..{count - 1}")
    _check_names(tuples)
    _check_pairs(tuples)
    if tuples.negatives is not None:
        _check_negatives(tuples.negatives, count)
    if photos is None:
        return np.zeros(count, bool)
    missing = _missing_photos(tuples, photos)
    if missing.any():
        if not skip_missing:
            raise TuplesError(f"{_missing_text(tuples, missing, photos)}; --missing skip leaves their tuples out")
        log.warning(f"{_missing_text(tuples, missing, photos)}; their tuples are left out")
    return missing


def _missing_photos(tuples: Tuples, photos: Path) -> np.ndarray:
    """Finds the photos of tuples that do not exist.

    Args:
        tuples: the tuples, with N photos.
        photos: the folder of the photos.

    Returns:
        A mask of the photos that do not exist, (N,) bool.

    Raises:
        TuplesError: the folder does not exist, or contains none of the photos.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    if remote := remote_folder(photos):
        try:
            found = remote.files()
        except MissingFileError as error:
            raise TuplesError(f"{named(photos)}, the folder of the photos, does not exist") from error
        missing = np.array([name not in found for name in tuples.images], bool)
    elif photos.is_dir():
        missing = np.array([not stored_path(photos / name).is_file() for name in tuples.images], bool)
    else:
        raise TuplesError(
            f"{photos}, the folder of the photos, {'is not a folder' if photos.exists() else 'does not exist'}"
        )
    if missing.all():
        raise TuplesError(
            f"{_where(tuples, 0)}: {named(photos / tuples.images[0])} does not exist, nor does any other of the "
            f"{len(missing):,} photos: give the folder below which the names are paths with --photos"
        )
    return missing


def _missing_text(tuples: Tuples, missing: np.ndarray, photos: Path) -> str:
    """Describes photos that do not exist: their number, and the first few with their places in the source."""
    rows = np.flatnonzero(missing)
    first = "; ".join(f"{_where(tuples, row)}: {named(photos / tuples.images[row])}" for row in rows[:_LISTED])
    more = f"; and {len(rows) - _LISTED:,} more" if len(rows) > _LISTED else ""
    return f"{len(rows):,} of {len(missing):,} photos do not exist: {printable(first)}{more}"


def _where(tuples: Tuples, row: int) -> str:
    return tuples.where[row] if tuples.where else f"photo {row}"


def _check_names(tuples: Tuples) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(tuples.images):
        if (earlier := first.setdefault(name, row)) != row:
            clusters = f"{tuples.cluster[earlier]} and {tuples.cluster[row]}"
            raise TuplesError(
                f"{_where(tuples, row)}: {name} occurs twice, also at {_where(tuples, earlier)}, in clusters {clusters}"
            )
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise TuplesError(f"{_where(tuples, row)}: {name} is not a path inside the folder of the photos")


def _check_pairs(tuples: Tuples) -> None:
    same = np.flatnonzero(tuples.qidxs == tuples.pidxs)
    if len(same):
        name = tuples.images[tuples.qidxs[same[0]]]
        raise TuplesError(f"pair {same[0]}: {name} is its own positive")
    linked = {tuple(sorted(pair)) for pair in tuples.same_object.tolist()}
    queries, positives = tuples.cluster[tuples.qidxs], tuples.cluster[tuples.pidxs]
    for pair in np.flatnonzero(queries != positives):
        one, other = sorted((int(queries[pair]), int(positives[pair])))
        if (one, other) not in linked:
            names = [tuples.images[index] for index in (tuples.qidxs[pair], tuples.pidxs[pair])]
            raise TuplesError(f"pair {pair}: {names[0]} and {names[1]} are in different clusters, {one} and {other}")


def _check_negatives(negatives: np.ndarray, count: int) -> None:
    if len(negatives) != count:
        raise TuplesError(f"{count} photos have {len(negatives)} lists of negatives: there must be one for each")
    wrong = np.argwhere((negatives < -1) | (negatives >= count) | (negatives == np.arange(count)[:, None]))
    if len(wrong):
        row, column = wrong[0]
        raise TuplesError(
            f"photo {row}: its negative {negatives[row, column]} is not the index of another photo in 0..{count - 1}"
        )
