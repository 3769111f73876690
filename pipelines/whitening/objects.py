"""Photos by object, from which a linear adaptation is learned."""

import logging
from dataclasses import dataclass, replace

import numpy as np

from ..copies.find import find_copies
from ..descriptors.learn_whitening import WhiteningError
from ..files.remote import is_folder, named
from ..photos.object_folders import find_objects
from ..training_tuples.copies import separate_copies
from ..training_tuples.data import Tuples, objects
from ..training_tuples.file import read_tuples
from .options import WhitenOptions

log = logging.getLogger("keras_retrieval")


@dataclass(frozen=True)
class ObjectPhotos:
    """Photos by the object that they show; N is the number of photos.

    Attributes:
        names: the names of the photos.
        place: (N,) integers, the object of each photo, in the widest sense: photos that may show the same object, also
            because copies of one photo are among both, have the same number.
        relevant: (N,) integers: photos with the same number show the same thing, so that a search for one should find
            the others. Photos of one place with different numbers are neither positives nor negatives of each other.
        copies: (N,) integers, the number of each photo's group of copies, -1 for none.
    """

    names: list[str]
    place: np.ndarray
    relevant: np.ndarray
    copies: np.ndarray

    def take(self, rows: np.ndarray) -> "ObjectPhotos":
        """Returns the photos with the given indexes."""
        names = [self.names[row] for row in rows.tolist()]
        return ObjectPhotos(names, self.place[rows], self.relevant[rows], self.copies[rows])


def read_objects(options: WhitenOptions) -> ObjectPhotos:
    """Reads photos by object from tuples.npz or from a folder, in which copies of photos are found.

    Args:
        options: the options of `whiten`; `tuples`, `objects`, `photos` and those of the intake are used.

    Returns:
        The photos of the tuples, or those in the folder's objects.

    Raises:
        TuplesError: the tuples cannot be read.
        PhotoFolderError: the folder contains no photo, or its sub-folders do not show what is an object.
        WhiteningError: no object has two photos that are not copies of each other.
    """
    tuples = _from_folder(options) if is_folder(options.tuples) else read_tuples(options.tuples)
    copies = tuples.details.get("copies", np.full(len(tuples.images), -1))
    place, relevant = objects(tuples).astype(np.int64), tuples.cluster.astype(np.int64)
    if (relevant[tuples.qidxs] != relevant[tuples.pidxs]).any():
        relevant = place  # positives of photos by position are in other clusters
    photos = ObjectPhotos(tuples.images, place, relevant, copies.astype(np.int64))
    require_pairs(photos, named(options.tuples))
    return photos


def require_pairs(photos: ObjectPhotos, source: str) -> None:
    """Checks that photos are of at least two objects that can be learned from.

    Args:
        photos: the photos.
        source: what they were read from, for the message.

    Raises:
        WhiteningError: fewer than two objects have two photos that are not copies of each other.
    """
    count = len(np.unique(photos.place[with_positives(photos)]))
    if count < 2:
        found = len(np.unique(photos.place))
        said = "none of them has" if not count else "only one of them has"
        raise WhiteningError(
            f"{source}: linear learns to tell objects apart, and of {len(photos.names):,} photos of {found:,} "
            f"object{'' if found == 1 else 's'} {said} two photos that are not copies of one another: add photos of "
            "the same objects and of others, or use --method pca"
        )


def with_positives(photos: ObjectPhotos) -> np.ndarray:
    """Returns a mask of the photos that have a positive: another photo of the same thing that is no copy, (N,) bool."""
    own = np.arange(len(photos.names))
    kind = np.where(photos.copies < 0, -1 - own, photos.copies)  # copies of one photo have one number
    different = np.unique(np.column_stack([photos.relevant, kind]), axis=0)[:, 0]
    values, counts = np.unique(different, return_counts=True)
    return np.isin(photos.relevant, values[counts > 1])


def _from_folder(options: WhitenOptions) -> Tuples:
    found = find_objects(options.take(options.tuples).photos, options.tuples, options.objects)
    log.info(found.account)
    images = [name for names in found.photos.values() for name in names]
    cluster = np.repeat(np.arange(len(found.photos)), [len(names) for names in found.photos.values()])
    none = np.zeros(0, np.int64)
    copies = find_copies(options.folder, images, accept_truncated=options.accept_truncated)
    tuples, separated = separate_copies(Tuples(images, cluster, none, none), copies.group_of(images))
    if separated.photos:
        log.info(f"{separated.photos:,} photos are copies of {separated.groups:,}, and no positives of each other")
    return replace(tuples, qidxs=none, pidxs=none)
