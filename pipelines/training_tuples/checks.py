"""Consistency checks of training tuples: array lengths, indexes, photo names, pairs and lists of negatives."""

from pathlib import Path, PurePosixPath

import numpy as np

from .data import Tuples, TuplesError


def check(tuples: Tuples, photos: Path | None) -> None:
    """Checks the consistency that training assumes of training tuples.

    Args:
        tuples: the tuples to check, from any source.
        photos: folder in which every photo of the tuples must exist; None skips this check.

    Raises:
        TuplesError: `photos` is not a folder; there are no photos or pairs; arrays differ in length; an index is out of
            range; a photo is listed twice, does not exist in `photos`, or is its own positive or negative; the name of
            a photo is not a path inside the folder of the photos; or the query and the positive of a pair are in
            different clusters that are not linked.
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
    _check_names(tuples, photos)
    _check_pairs(tuples)
    if tuples.negatives is not None:
        _check_negatives(tuples.negatives, count)


def _where(tuples: Tuples, row: int) -> str:
    return tuples.where[row] if tuples.where else f"photo {row}"


def _check_names(tuples: Tuples, photos: Path | None) -> None:
    if photos is not None and not photos.is_dir():
        raise TuplesError(
            f"{photos}, the folder of the photos, {'is not a folder' if photos.exists() else 'does not exist'}"
        )
    first: dict[str, int] = {}
    for row, name in enumerate(tuples.images):
        if (earlier := first.setdefault(name, row)) != row:
            clusters = f"{tuples.cluster[earlier]} and {tuples.cluster[row]}"
            raise TuplesError(
                f"{_where(tuples, row)}: {name} occurs twice, also at {_where(tuples, earlier)}, in clusters {clusters}"
            )
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise TuplesError(f"{_where(tuples, row)}: {name} is not a path inside the folder of the photos")
        if photos is not None and not (photos / name).is_file():
            raise TuplesError(f"{_where(tuples, row)}: {photos / name} does not exist")


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
