"""Splits photos into training and validation photos, by whole objects."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..files.components import connected
from .data import Tuples, TuplesError, validation_mask


def split(tuples: Tuples, share: float, negatives: int, seed: int) -> Tuples:
    """Sets randomly chosen objects aside for validation, with all their photos.

    An object is a cluster, or several clusters that are linked because they may show the same object.

    Args:
        tuples: tuples that `checks.check` has accepted. If they are already split, the split is kept.
        share: fraction of the photos of objects with a pair to set aside, in 0..1; whole objects are chosen until it is
            reached as closely as possible. Others are trained on, except that where negatives are listed all photos
            count, since each needs listed ones beside it. If `share` is above 0, at least two objects with a pair are
            set aside, because each is the other's negatives; none is if too few clusters, or no pair, would be left for
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
    """Chooses objects with pairs at random until the share of photos is reached, and returns their clusters.

    If these could not be used for validation, the two smallest objects with pairs are chosen, or none.
    """
    if share <= 0:
        return []
    numbers, sizes = np.unique(tuples.cluster, return_counts=True)
    size = dict(zip(numbers.tolist(), sizes.tolist(), strict=True))
    paired = set(tuples.cluster[tuples.qidxs].tolist())
    objects = connected(size, [(one, other) for one, other in tuples.same_object.tolist()])
    if tuples.negatives is None:
        objects = [members for members in objects if paired.intersection(members)]
    photos = [sum(size[cluster] for cluster in members) for members in objects]
    order = np.random.default_rng(seed).permutation(len(objects)).tolist()
    room = max(share * sum(photos), float(sum(sorted(photos)[:2])))
    chosen = _choose_objects(tuples, [(objects[number], photos[number]) for number in order], room, negatives)
    if _usable(tuples, chosen):
        return [cluster for members in chosen for cluster in members]
    smallest = sorted(
        (number for number in order if paired.intersection(objects[number])),
        key=lambda number: (len(objects[number]), photos[number]),
    )[:2]
    chosen = _choose_objects(tuples, [(objects[number], 0) for number in smallest], 0, negatives)
    return [cluster for members in chosen for cluster in members] if _usable(tuples, chosen) else []


def _choose_objects(
    tuples: Tuples, objects: Sequence[tuple[list[int], float]], room: float, negatives: int
) -> list[list[int]]:
    """Chooses objects, each its clusters and its number of photos, in order, which fit into the room for photos.

    An object is passed over if the clusters that are left would provide too few negatives.
    """
    numbers = np.unique(tuples.cluster)
    smallest = min((photos for _, photos in objects), default=0)
    most_links = np.bincount(np.searchsorted(numbers, tuples.same_object.ravel()), minlength=1).max()
    chosen: list[list[int]] = []
    clusters: list[int] = []
    for members, photos in objects:
        # A lower bound on the number of available negatives, which nearly always makes the exact count unnecessary.
        plenty = len(numbers) - len(clusters) - len(members) - 1 - most_links >= negatives
        if photos <= room and (
            plenty or _fewest_negatives(tuples, np.setdiff1d(numbers, [*clusters, *members])) >= negatives
        ):
            chosen.append(members)
            clusters += members
            room -= photos
        if room < smallest:
            break
    return chosen


def _usable(tuples: Tuples, objects: Sequence[list[int]]) -> bool:
    """Returns whether a query among the photos of these objects has a negative among them, too, and others a pair."""
    aside = np.isin(tuples.cluster, [cluster for members in objects for cluster in members])
    if aside[tuples.qidxs].all():
        return False
    queries = np.unique(tuples.qidxs[aside[tuples.qidxs]])
    if tuples.negatives is not None:
        listed = tuples.negatives[queries]
        return bool((aside[listed] & (listed >= 0)).any())
    return len(objects) > 1 and len(queries) > 0


def _fewest_negatives(tuples: Tuples, clusters: np.ndarray) -> int:
    """Counts, for each cluster, the other clusters not linked to it, and returns the minimum; -1 without clusters."""
    if not len(clusters):
        return -1
    linked = tuples.same_object[np.isin(tuples.same_object, clusters).all(axis=1)]
    counts = np.bincount(np.searchsorted(clusters, linked.ravel()), minlength=len(clusters))
    return len(clusters) - 1 - int(counts.max())
