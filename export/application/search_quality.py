"""Computes the mAP of searches in photos whose folders are objects, from a folder of their descriptors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.descriptors.folder import read_descriptors
from keras_retrieval.pipelines.photos.object_folders import Objects

from keras_retrieval.metrics import retrieval

MOST_QUERIES = 1_000


@dataclass(frozen=True)
class Quality:
    """The mean average precision of searches with photos of a collection, among its other photos.

    Attributes:
        mean_ap: the mAP, from 0 to 1.
        queries: the number of queries.
    """

    mean_ap: float
    queries: int


def search_quality(descriptors: Path, objects: Objects) -> Quality | None:
    """Searches with each photo that shows an object, exactly, and computes the mAP.

    The positives of a query are the other photos of its object. Above 1,000 photos, 1,000 are drawn as queries.

    Args:
        descriptors: folder of the descriptors.
        objects: the photos by object.

    Returns:
        The quality; None if no object has two photos with descriptors.
    """
    shards, names, _ = read_descriptors(descriptors)
    rows, of_photo = np.concatenate(shards), objects.of_photo
    numbers = {one: number for number, one in enumerate(objects.photos)}
    shown = np.array([numbers[of_photo[name]] if name in of_photo else -1 for name in names])
    counts = np.bincount(shown[shown >= 0], minlength=1)
    queries = np.array([row for row, number in enumerate(shown) if number >= 0 and counts[number] > 1], np.int64)
    if not len(queries):
        return None
    queries = np.sort(np.random.default_rng(0).permutation(queries)[:MOST_QUERIES])
    positives = [np.setdiff1d(np.flatnonzero(shown == shown[row]), [row]) for row in queries]
    ranks = np.argsort(-(rows @ rows[queries].T), axis=0, kind="stable")
    scores = retrieval(ranks, positives, [np.array([row]) for row in queries])
    return Quality(float(scores.mean_ap), len(queries))
