"""Chooses shrinkage and shift of Lw, the whitening that is learned from matching pairs, by objects that are held out.

With few photos per dimension the covariance of matching pairs is known in few directions, and how much it must be
shrunk depends on the network and on the photos: a network that was trained from random weights on 96 photos gains most
with 1, one with ImageNet's weights with 10 to 100. So objects are divided into folds. For each fold, Lw is learned from
the pairs of the other folds with several shrinkages, and the photos of the fold are searched for among all photos. The
shrinkage with the highest mean average precision (mAP) is taken.

So is the share of the mean that is subtracted, the shift. The mean of few objects is in part that of all photos, and in
part what these objects look like: a network with random weights before training gives all photos much the same
descriptor, and gains most from the whole mean; one with ImageNet's weights from three quarters, also where other photos
are searched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_retrieval.metrics import average_precision
from keras_retrieval.ranking.rows import Database, gather, l2_normalize
from keras_retrieval.whitening.covariance import PHOTOS_PER_DIMENSION, lw_shrinkage, sorted_eigenvectors

from ..files.components import connected

SHRINKAGES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""The shrinkages that are compared."""

SHIFTS = (1.0, 0.75, 0.5)
"""The shifts that are compared; of equal ones the greatest is taken."""

LEAST_OBJECTS = 5
"""Smallest number of objects with pairs that are divided into folds."""

MOST_PHOTOS = 2_000
"""Largest number of photos that are compared; of more, objects are chosen at random, and a fifth is the most of one."""

_FEW_OBJECTS, _FOLDS = 12, 5  # up to which each object is a fold, and the number of folds above


@dataclass(frozen=True)
class Shrinkage:
    """A shrinkage, a shift, and the reason for them.

    Attributes:
        value: the shrinkage, see `keras_retrieval.whitening.fit_lw`.
        why: the reason, a part of a sentence.
        shift: the share of the mean that is subtracted.
    """

    value: float
    why: str
    shift: float = 1.0


def choose_shrinkage(database: Database, qidxs: np.ndarray, pidxs: np.ndarray, shift: float | None = None) -> Shrinkage:
    """Chooses the shrinkage, and if it is not given the shift, with which Lw is learned from pairs of descriptors.

    With at least 4 photos in pairs per dimension (PHOTOS_PER_DIMENSION) it is 0, as published. Otherwise it is the one
    of SHRINKAGES with the highest mAP of held-out objects, or 1 if fewer than 5 objects (LEAST_OBJECTS) have pairs.
    Photos that pairs connect are one object. The positives of a photo are those with which it has a pair; other photos
    of its object are ignored.

    Args:
        database: descriptors, as an array (N, D) or as a sequence of arrays (n, D).
        qidxs: the row of the query of each pair, (pairs,).
        pidxs: the row of the positive of each pair, (pairs,).
        shift: the share of the mean that is subtracted; None for that of SHIFTS that together with the shrinkage gives
            the highest mAP, or 1 where none are compared.
    """
    given = 1.0 if shift is None else shift
    rows, size = np.union1d(qidxs, pidxs), database[0].shape[-1]
    value = lw_shrinkage(len(rows), size)
    fewer = "fewer than" if value else "at least"
    rule = f"{len(rows):,} photos in pairs, {fewer} {PHOTOS_PER_DIMENSION} for each of {size:,} dimensions"
    if not value:
        return Shrinkage(value, rule, given)
    pairs = qidxs != pidxs
    edges = list(zip(qidxs[pairs].tolist(), pidxs[pairs].tolist(), strict=True))
    objects = connected({row for edge in edges for row in edge}, edges)
    if len(objects) < LEAST_OBJECTS:
        return Shrinkage(value, f"{rule}, and fewer than {LEAST_OBJECTS} objects with pairs", given)
    taken = _sample(objects)
    shifts = SHIFTS if shift is None else (shift,)
    scores = _held_out_scores(database, edges, taken, shifts)
    of_shift, best = (int(one) for one in np.unravel_index(np.argmax(scores), scores.shape))
    compared = ", ".join(f"{one:g}" for one in SHRINKAGES)
    if shift is None:
        compared += f", each with the shifts {', '.join(f'{one:g}' for one in SHIFTS)},"
    return Shrinkage(
        SHRINKAGES[best],
        f"{rule}; of {compared} the one with the highest mAP of {len(taken):,} objects that are held out, "
        f"{scores[of_shift, best]:.4f}, where {SHRINKAGES[0]:g} gives {scores[0, 0]:.4f}",
        shifts[of_shift],
    )


def _sample(objects: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Puts objects in a random order, and takes as many of them, cut to a size, as have MOST_PHOTOS photos."""
    taken: list[Sequence[int]] = []
    left = MOST_PHOTOS
    for number in np.random.default_rng(0).permutation(len(objects)).tolist():
        one = objects[number][: MOST_PHOTOS // LEAST_OBJECTS]
        if len(one) <= left:
            taken.append(one)
            left -= len(one)
    return taken


def _held_out_scores(
    database: Database, edges: Sequence[tuple[int, int]], objects: Sequence[Sequence[int]], shifts: Sequence[float]
) -> np.ndarray:
    """Returns the mean over objects of their mAP with each shift and each shrinkage, (shifts, shrinkages)."""
    row_of = {row: number for number, row in enumerate(row for one in objects for row in one)}
    place = np.repeat(np.arange(len(objects)), [len(one) for one in objects])
    q, p = np.array([(row_of[one], row_of[other]) for one, other in edges if one in row_of and other in row_of]).T
    z = gather(database, np.array(list(row_of)), np.float64)
    size = z.shape[1]
    if len(z) < size:
        z = z @ np.linalg.qr(z.T)[0]  # what follows depends on distances only, and needs no other directions
    positive = np.zeros((len(z), len(z)), bool)
    positive[q, p] = positive[p, q] = True
    searched = positive.any(axis=1)
    folds = np.arange(len(objects)) if len(objects) <= _FEW_OBJECTS else np.arange(len(objects)) % _FOLDS
    precisions = np.zeros((len(shifts), len(SHRINKAGES), len(z)))
    for fold in np.unique(folds):
        held = folds[place] == fold
        learned = ~held[q]
        differences = z[q[learned]] - z[p[learned]]
        values, vectors = sorted_eigenvectors(differences.T @ differences)
        values = np.maximum(values, 0)
        turned, mean = z @ vectors, z[q[learned]].mean(axis=0) @ vectors
        for row, column in np.ndindex(precisions.shape[:2]):
            least = max(SHRINKAGES[column] * values.sum() / size, np.finfo(np.float64).tiny)
            y = l2_normalize((turned - shifts[row] * mean) / np.sqrt(values + least))
            for query in np.flatnonzero(held & searched).tolist():
                counted = positive[query] | (place != place[query])
                order = np.argsort(-(y @ y[query])[counted], kind="stable")
                found = np.flatnonzero(positive[query][counted][order])
                precisions[row, column, query] = average_precision(found, len(found))
    counts = np.maximum(np.bincount(place, searched), 1)
    by_object = [np.bincount(place, one) / counts for one in precisions.reshape(-1, len(z))]
    return np.stack(by_object).mean(axis=1).reshape(precisions.shape[:2])
