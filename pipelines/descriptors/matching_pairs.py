"""Matching pairs of photos, from which a whitening is learned: read from tuples.npz or from a folder of objects."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from keras_retrieval.errors import RetrievalError

from ..photos.intake import Intake, take_photos

_FIELDS = ("images", "cluster", "qidxs", "pidxs")


class PairsError(RetrievalError, ValueError):
    """Matching pairs cannot be read, or there is no pair."""


@dataclass(frozen=True)
class MatchingPairs:
    """Matching pairs among photos.

    Attributes:
        images: the names of the photos, with / as the separator.
        qidxs: the row in `images` of each pair's query, (pairs,) int64.
        pidxs: the row in `images` of each pair's positive, (pairs,) int64.
    """

    images: list[str]
    qidxs: np.ndarray
    pidxs: np.ndarray


def read_pairs(tuples: Path, take: Callable[[Path], Intake] = take_photos) -> MatchingPairs:
    """Reads the matching pairs of tuples.npz, or pairs all photos of each sub-folder of a folder.

    In a folder, each photo is the query of one pair with each other photo of its sub-folder.

    Args:
        tuples: an .npz file with images (n,) text, cluster (n,), qidxs and pidxs (pairs,) integers; or a folder with
            one sub-folder for each object.
        take: takes the photos of a folder, such as `IntakeOptions.take`.

    Raises:
        PairsError: the file does not exist, a field is missing or does not fit the others, or there is no pair.
    """
    if tuples.is_dir():
        return _pairs_within(take(tuples).photos, tuples)
    if not tuples.is_file():
        raise PairsError(f"{tuples} does not exist")
    try:
        with np.load(tuples, allow_pickle=False) as file:
            images, _, qidxs, pidxs = (file[field] for field in _FIELDS)
    except Exception as error:
        # numpy raises many kinds of errors for a damaged zip file, without its name.
        raise PairsError(f"{tuples} is not an .npz file with {', '.join(_FIELDS)}: {error}") from error
    if images.ndim != 1 or images.dtype.kind != "U":
        raise PairsError(f"{tuples}: images must be a list of names, not {images.dtype} of shape {images.shape}")
    for name, rows in (("qidxs", qidxs), ("pidxs", pidxs)):
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.shape != qidxs.shape:
            raise PairsError(f"{tuples}: {name} must be a list of integers as long as qidxs")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(images):
            raise PairsError(f"{tuples}: {name} refers to a photo beyond the {len(images):,} named")
    return MatchingPairs(images.tolist(), qidxs.astype("int64"), pidxs.astype("int64"))


def _pairs_within(names: list[str], folder: Path) -> MatchingPairs:
    objects: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if "/" in name:
            objects.setdefault(PurePosixPath(name).parts[0], []).append(row)
    pairs = [(q, p) for rows in objects.values() for q in rows for p in rows if q != p]
    if not pairs:
        raise PairsError(f"{folder} has no sub-folder with two photos or more: there are no matching pairs")
    qidxs, pidxs = np.array(pairs, "int64").T
    return MatchingPairs(names, qidxs, pidxs)
