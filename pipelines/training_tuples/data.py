"""Training tuples in memory: photos in clusters, and pairs of a query and a positive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_retrieval.errors import RetrievalError

from ..files.components import connected


class TuplesError(RetrievalError, ValueError):
    """Tuples cannot be made or read; the message names the row, the photo or the option at fault."""


@dataclass(frozen=True)
class Tuples:
    """Photos, their clusters and pairs of matching photos. The module `file` describes how they are stored.

    Attributes:
        images: names of the N photos.
        cluster: (N,) cluster number of each photo.
        qidxs: (Q,) the query of each pair, an index into `images`.
        pidxs: (Q,) the positive of each pair, an index into `images`.
        same_object: (M, 2) pairs of clusters that may show the same object and are not negatives of each other.
        validation: (N,) bool mask of the photos set aside for validation; None if there is no split yet.
        negatives: (N, n) indexes of the only photos that may be negatives of each photo, padded with -1; None if all
            photos of other, unlinked clusters may be negatives.
        details: dict of further arrays of the file, such as `shared`.
        where: for each photo its origin, such as the file and line that list it, for messages; if empty, messages say
            "photo N".
    """

    images: list[str]
    cluster: np.ndarray
    qidxs: np.ndarray
    pidxs: np.ndarray
    same_object: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    validation: np.ndarray | None = None
    negatives: np.ndarray | None = None
    details: Mapping[str, np.ndarray] = field(default_factory=dict)
    where: Sequence[str] = ()


def cluster_by_pairs(count: int, qidxs: np.ndarray, pidxs: np.ndarray) -> np.ndarray:
    """Numbers the groups of photos that are connected by pairs.

    Args:
        count: number of photos.
        qidxs: (Q,) index of one photo of each pair.
        pidxs: (Q,) index of the other photo of each pair.

    Returns:
        (count,) int64 array with the group number of each photo; group 0 is the largest.
    """
    cluster = np.zeros(count, np.int64)
    for number, group in enumerate(connected(range(count), zip(qidxs.tolist(), pidxs.tolist(), strict=True))):
        cluster[group] = number
    return cluster


def objects(tuples: Tuples) -> np.ndarray:
    """Numbers the objects: clusters that are linked, directly or through other clusters, are one object.

    Returns:
        (N,) int32 array with the object number of each photo.
    """
    numbers, place = np.unique(tuples.cluster, return_inverse=True)
    links = tuples.same_object[np.isin(tuples.same_object, numbers).all(axis=1)]
    found = np.zeros(len(numbers), np.int32)
    for number, part in enumerate(connected(numbers.tolist(), [(one, other) for one, other in links.tolist()])):
        found[np.searchsorted(numbers, part)] = number
    return found[place]


def validation_mask(tuples: Tuples) -> np.ndarray:
    """Returns the (N,) bool mask of the photos for validation, all False if there is no split yet."""
    return np.zeros(len(tuples.images), bool) if tuples.validation is None else tuples.validation


def statistics(tuples: Tuples) -> dict[str, Any]:
    """Counts the photos, clusters, queries and pairs for training and for validation.

    Returns:
        A JSON-able dict with the keys "training" and "validation", each a dict of counts and of `pairs_per_query`.
    """
    validation = validation_mask(tuples)
    counts: dict[str, Any] = {}
    for name, photos in (("training", ~validation), ("validation", validation)):
        pairs = photos[tuples.qidxs]
        queries, each = np.unique(tuples.qidxs[pairs], return_counts=True)
        counts[name] = {
            "photos": int(photos.sum()),
            "clusters": len(np.unique(tuples.cluster[photos])),
            "queries": len(queries),
            "pairs": int(pairs.sum()),
            "pairs_per_query": round(float(each.mean()), 2) if len(each) else 0.0,
        }
    return counts
