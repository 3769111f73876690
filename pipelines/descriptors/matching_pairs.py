"""Reads the matching pairs of photos from which a whitening is learned.

The pairs are in a file tuples.npz, or in a folder of photos with sub-folders for objects.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_retrieval.errors import RetrievalError

from ..files.remote import is_folder
from ..photos.intake import Intake, take_photos
from ..photos.object_folders import AUTO, find_objects

log = logging.getLogger("keras_retrieval")

_FIELDS = ("images", "cluster", "qidxs", "pidxs")


class PairsError(RetrievalError, ValueError):
    """Matching pairs cannot be read from a file."""


@dataclass(frozen=True)
class MatchingPairs:
    """Pairs of photos that show the same object, each a query and its positive.

    Attributes:
        images: the names of all photos, with / as the separator.
        qidxs: the index in `images` of each pair's query, (pairs,) int64.
        pidxs: the index in `images` of each pair's positive, (pairs,) int64.
    """

    images: list[str]
    qidxs: np.ndarray
    pidxs: np.ndarray


def read_pairs(
    tuples: Path, take: Callable[[Path], Intake] = take_photos, rule: str = AUTO, *, needed: bool = True
) -> MatchingPairs:
    """Reads matching pairs from tuples.npz, or pairs all photos of each object in a folder.

    In a folder, each photo is paired, as the query, with each other photo of its object. Which folders were taken for
    objects is logged.

    Args:
        tuples: a .npz file with the arrays images (n,) text, cluster (n,), and qidxs and pidxs (pairs,) integers, as
            `keras-retrieval tuples` writes it; or a folder of photos with sub-folders for objects.
        take: takes the photos of a folder, such as `IntakeOptions.take`.
        rule: the rule by which folders are objects, one of `object_folders.RULES`.
        needed: whether the pairs are needed. If not, a folder's photos need no objects and are read without pairs.

    Returns:
        The names of the photos and the pairs.

    Raises:
        PairsError: the file does not exist or cannot be read, or an array is missing or has a wrong type or shape.
        PhotoFolderError: the folder contains no photo, its sub-folders do not show what is an object, or no object has
            two photos.
    """
    if is_folder(tuples):
        names = take(tuples).photos
        if not needed:
            return MatchingPairs(names, np.zeros(0, "int64"), np.zeros(0, "int64"))
        return _pairs_within(names, tuples, rule)
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


def _pairs_within(names: list[str], folder: Path, rule: str) -> MatchingPairs:
    objects = find_objects(names, folder, rule)
    log.info(objects.account)
    images = [name for photos in objects.photos.values() for name in photos]
    row_of = {name: row for row, name in enumerate(images)}
    groups = [[row_of[name] for name in photos] for photos in objects.photos.values()]
    pairs = [(q, p) for rows in groups for q in rows for p in rows if q != p]
    qidxs, pidxs = np.array(pairs, "int64").T
    return MatchingPairs(images, qidxs, pidxs)
