"""Training tuples in memory: photos that are divided into clusters, and pairs of a query and a positive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keras_retrieval.errors import RetrievalError

from ..files.components import connected


class TuplesError(RetrievalError, ValueError):
    """Training tuples cannot be made or read. The message names the row, the photo or the option that is wrong."""


@dataclass(frozen=True)
class Tuples:
    """Training tuples without their negatives: N photos in clusters, and Q pairs of a query and a positive.

    A cluster is a set of photos of the same object. Training chooses negatives from other clusters. The module
    `training_tuples.file` describes the file format.

    Attributes:
        images: names of the photos, as paths relative to the folder of the photos.
        cluster: (N,) integers, the cluster number of each photo.
        qidxs: (Q,) integers, the query of each pair as an index into `images`.
        pidxs: (Q,) integers, the positive of each pair as an index into `images`.
        same_object: (M, 2) integers, links: pairs of clusters that may show the same object, so that their photos are
            not used as negatives of each other.
        validation: (N,) bool, true for the photos that are set aside for validation; None before the photos are split.
        negatives: (N, n) integers, for each photo the indexes of the only photos that may be its negatives, padded with
            -1; None if all photos of other clusters that are not linked may be negatives.
        details: further arrays for the file by name, such as `shared` of tuples from 3D models.
        where: the origin of each photo for error messages, such as "pairs.csv, line 3"; if empty, messages use the
            index of the photo.
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
    """Divides photos into clusters: the connected components of the graph whose edges are pairs of photos.

    Args:
        count: number of photos.
        qidxs: (Q,) integers in 0..count-1, one photo of each pair.
        pidxs: (Q,) integers in 0..count-1, the other photo of each pair.

    Returns:
        The cluster number of each photo, (count,) int64. Clusters are numbered by decreasing size from 0.
    """
    cluster = np.zeros(count, np.int64)
    for number, group in enumerate(connected(range(count), zip(qidxs.tolist(), pidxs.tolist(), strict=True))):
        cluster[group] = number
    return cluster


_OF_PAIRS, _INDEXES = ("shared", "scale_change"), ("camera_neighbours",)  # details of tuples from 3D models


def without(tuples: Tuples, removed: np.ndarray) -> Tuples:
    """Removes photos from training tuples, with the pairs that they are part of.

    Args:
        tuples: the tuples, with N photos.
        removed: mask of the photos to remove, (N,) bool.

    Returns:
        The tuples of the other photos, in the same order.

    Raises:
        TuplesError: no pair is left.
    """
    kept = ~removed
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    pairs = kept[tuples.qidxs] & kept[tuples.pidxs]
    if not pairs.any():
        raise TuplesError("no pair is left without the photos that do not exist")
    details = {}
    for name, array in tuples.details.items():
        if name in _OF_PAIRS:
            details[name] = array[pairs]
        elif name in _INDEXES:
            details[name] = np.where(array[kept] < 0, -1, number[array[kept]])
        else:
            details[name] = array[kept] if len(array) == len(kept) else array
    return replace(
        tuples,
        images=[name for name, keep in zip(tuples.images, kept, strict=True) if keep],
        cluster=tuples.cluster[kept],
        qidxs=number[tuples.qidxs[pairs]],
        pidxs=number[tuples.pidxs[pairs]],
        validation=None if tuples.validation is None else tuples.validation[kept],
        negatives=None
        if tuples.negatives is None
        else np.where(tuples.negatives[kept] < 0, -1, number[tuples.negatives[kept]]),
        details=details,
        where=[place for place, keep in zip(tuples.where, kept, strict=True) if keep] if tuples.where else (),
    )


def objects(tuples: Tuples) -> np.ndarray:
    """Numbers the objects of training tuples, where clusters linked directly or through other clusters are one object.

    Args:
        tuples: the tuples, with N photos and the links `same_object`.

    Returns:
        The object number of each photo, (N,) int32. Objects are numbered by decreasing number of clusters from 0.
    """
    numbers, place = np.unique(tuples.cluster, return_inverse=True)
    links = tuples.same_object[np.isin(tuples.same_object, numbers).all(axis=1)]
    found = np.zeros(len(numbers), np.int32)
    for number, part in enumerate(connected(numbers.tolist(), [(one, other) for one, other in links.tolist()])):
        found[np.searchsorted(numbers, part)] = number
    return found[place]


def validation_mask(tuples: Tuples) -> np.ndarray:
    """Returns a mask of the photos that are set aside for validation.

    Args:
        tuples: the tuples, with N photos.

    Returns:
        A mask, (N,) bool; all False if the photos are not split yet.
    """
    return np.zeros(len(tuples.images), bool) if tuples.validation is None else tuples.validation


def statistics(tuples: Tuples) -> dict[str, Any]:
    """Counts the photos, clusters, queries and pairs of training tuples, for training and for validation.

    Args:
        tuples: the tuples; photos that are not split count as training photos.

    Returns:
        A dict, serialisable as JSON, that maps "training" and "validation" to dicts with the counts "photos",
        "clusters", "queries" and "pairs", and with the mean "pairs_per_query".
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
