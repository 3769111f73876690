"""Splits photos into training and validation photos, by whole objects."""

from dataclasses import replace

import numpy as np

from ..files.components import connected
from .data import Tuples, TuplesError, validation_mask


def split(tuples: Tuples, share: float, negatives: int, seed: int) -> Tuples:
    """Sets randomly chosen objects aside for validation, with all their photos.

    An object is a cluster, or several clusters that are linked because they may show the same object.

    Args:
        tuples: tuples that `checks.check` has accepted. If they are already split, the split is kept.
        share: fraction of the photos to set aside, in 0..1; whole objects are chosen until it is reached as closely as
            possible. If `share` is above 0, at least one object is set aside, unless too few clusters would be left for
            training.
        negatives: number of negatives per query, each from a different cluster, that the clusters left for training
            must provide for every query.
        seed: random seed of the choice of objects.

    Returns:
        The tuples with the attribute `validation`.

    Raises:
        TuplesError: no photo is left for training, or the training clusters are too few for so many negatives.
    """
    if tuples.validation is None:
        chosen = _choose_validation(tuples, share, negatives, seed)
        tuples = replace(tuples, validation=np.isin(tuples.cluster, chosen))
    training = np.unique(tuples.cluster[~validation_mask(tuples)])
    if not len(training):
        raise TuplesError("all photos are set aside for validation: no photo is left for training")
    fewest = _fewest_negatives(tuples, training)
    if fewest < negatives:
        raise TuplesError(
            f"some queries can take negatives from only {fewest} of the {len(training)} training clusters, and "
            f"--negatives is {negatives}: add photos of other objects, or lower --negatives"
        )
    return tuples


def _choose_validation(tuples: Tuples, share: float, negatives: int, seed: int) -> list[int]:
    """Chooses objects at random until the share of photos is reached, and returns their clusters."""
    numbers, sizes = np.unique(tuples.cluster, return_counts=True)
    size = dict(zip(numbers.tolist(), sizes.tolist(), strict=True))
    objects = connected(size, [(one, other) for one, other in tuples.same_object.tolist()])
    chosen: list[int] = []
    if share <= 0:
        return chosen
    smallest = min(sum(size[cluster] for cluster in members) for members in objects)
    room = max(share * len(tuples.images), smallest)
    most_links = np.bincount(np.searchsorted(numbers, tuples.same_object.ravel()), minlength=1).max()
    for number in np.random.default_rng(seed).permutation(len(objects)):
        members = objects[number]
        photos = sum(size[cluster] for cluster in members)
        # A lower bound on the number of available negatives, which nearly always makes the exact count unnecessary.
        plenty = len(numbers) - len(chosen) - len(members) - 1 - most_links >= negatives
        if photos <= room and (
            plenty or _fewest_negatives(tuples, np.setdiff1d(numbers, [*chosen, *members])) >= negatives
        ):
            chosen += members
            room -= photos
        if room < smallest:
            break
    return chosen


def _fewest_negatives(tuples: Tuples, clusters: np.ndarray) -> int:
    """Counts, for each cluster, the other clusters not linked to it, and returns the minimum; -1 without clusters."""
    if not len(clusters):
        return -1
    linked = tuples.same_object[np.isin(tuples.same_object, clusters).all(axis=1)]
    counts = np.bincount(np.searchsorted(clusters, linked.ravel()), minlength=len(clusters))
    return len(clusters) - 1 - int(counts.max())
