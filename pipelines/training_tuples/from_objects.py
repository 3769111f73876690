"""Training tuples from photos by object, such as those in one folder per object."""

import logging

import numpy as np

from ..photos.object_folders import Objects
from .copies import CopyGroups, no_copies
from .data import Tuples
from .options import TuplesOptions

log = logging.getLogger("keras_retrieval")


def from_objects(objects: Objects, options: TuplesOptions, copies: CopyGroups = no_copies) -> Tuples:
    """Makes training tuples from photos by object, and logs which folders were taken for objects.

    Each object is a cluster. Every photo is a query, whose positives are chosen at random among the other photos of its
    object. A photo that is alone of its object has no positive, so that it is used only as a negative of other queries.

    Args:
        objects: the photos by object.
        options: the options of `tuples`. `positives` is the maximum number of positives per query, 3 if it is None;
            `seed` is the random seed of their choice. Other options are not used.
        copies: finds copies of photos, which are not chosen as positives of each other.
    """
    log.info(objects.account)
    images = sorted(name for names in objects.photos.values() for name in names)
    number = {name: row for row, names in enumerate(objects.photos.values()) for name in names}
    cluster = np.array([number[name] for name in images], np.int64)
    group = copies(images)
    order = np.argsort(cluster, kind="stable")
    first = np.searchsorted(cluster[order], np.arange(len(objects.photos) + 1))
    rng = np.random.default_rng(options.seed)
    pairs: list[tuple[int, int]] = []
    for query in range(len(images)):
        others = order[first[cluster[query]] : first[cluster[query] + 1]]
        others = others[(others != query) & ((group[others] < 0) | (group[others] != group[query]))]
        others = rng.permutation(others)[: options.positives_per_query]
        pairs += [(query, int(other)) for other in others]
    indexes = np.array(pairs, np.int64).reshape(-1, 2)
    return Tuples(images, cluster, indexes[:, 0], indexes[:, 1])
