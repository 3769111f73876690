"""Learns a linear adaptation of descriptors, as far from the identity as held-out objects gain from it.

Objects are divided into folds. For each fold, adaptations of several strengths are learned from the objects of the
other folds, and the photos of the fold are searched for among all photos. An adaptation is considered if the mean
average precision (mAP) of objects that it was not learned from rises, by a test over objects. Of those whose mAP is
within one standard error of the best, the one that changes similarities least is taken (the rule of Breiman et al.,
Classification and Regression Trees, 1984). If none is considered, the network is left as it is.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from keras_retrieval.metrics import average_precision
from keras_retrieval.ranking.rows import gather, l2_normalize
from keras_retrieval.whitening.covariance import Projection
from keras_retrieval.whitening.gram_pca import DIM, WIDE
from keras_retrieval.whitening.linear import Strength, as_projection, directions, fit_linear, principal

from ..descriptors.folder import read_descriptors
from ..descriptors.learn_whitening import WhiteningError
from ..files.progress import progress
from .objects import ObjectPhotos, require_pairs, with_positives

log = logging.getLogger("keras_retrieval")

STRENGTHS = (
    *(Strength(shrinkage=shrinkage) for shrinkage in (100.0, 30.0, 10.0, 3.0)),
    *(Strength(shrinkage, penalty) for shrinkage in (np.inf, 30.0) for penalty in (0.1, 0.01, 0.001)),
)
"""The strengths that are compared."""

MOST_PHOTOS = 10_000
"""Largest number of photos that are used; of more, whole objects are chosen at random."""

MOST_OF_OBJECT = 100
"""Largest number of photos of one object that are used."""

MOST_QUERIES = 1_000
"""Largest number of photos that are searched for in a comparison."""

LEAST_OBJECTS = 5
"""Smallest number of objects of which a comparison can show a gain: with 4, all may gain by chance in 1 of 16 cases."""

SIGNIFICANT = 0.05
"""Largest probability that objects gain as much by chance."""

_FEW_OBJECTS, _FEW_PHOTOS = 12, 1_000  # up to which each object is a fold, and up to which there are 5 folds
_NUMBERS = 2**27  # values of descriptors in memory
_FLIPS = 20_000


@dataclass(frozen=True)
class Comparison:
    """The mAP of objects that an adaptation was not learned from, with and without the adaptation.

    Attributes:
        strength: the strength of the adaptation.
        gains: difference of the mAP of each held-out object, (objects,).
        change: mean absolute difference of the similarity of two photos.
    """

    strength: Strength
    gains: np.ndarray
    change: float

    @property
    def chance(self) -> float:
        """Probability of such a mean gain if each object gained or lost with equal probability: sign-flip test."""
        gains = self.gains[self.gains != 0]
        if not len(gains) or gains.mean() <= 0:
            return 1.0
        if len(gains) <= 12:
            signs = np.array(list(product((-1, 1), repeat=len(gains))))
        else:
            signs = np.random.default_rng(0).choice((-1, 1), (_FLIPS, len(gains)))
        return float(np.mean(signs @ gains >= gains.sum() * (1 - 1e-9)))


@dataclass(frozen=True)
class Adaptation:
    """What was learned from photos.

    Attributes:
        projection: the adaptation, with the shift 0; None if the network is left as it is.
        account: a sentence that says what was chosen and why.
    """

    projection: Projection | None
    account: str


def learn_adaptation(descriptors: Path, photos: ObjectPhotos, dim: int | None, seed: int) -> Adaptation:
    """Learns a linear adaptation from a folder of descriptors.

    Args:
        descriptors: a folder that `keras-retrieval extract` wrote. Photos without a descriptor are left out.
        photos: the photos by object.
        dim: number of dimensions to keep. None keeps all, or up to 4,096 (DIM) of more than 8,192 (WIDE).
        seed: random seed of the choice of photos, of folds and of queries.

    Returns:
        The adaptation. If `dim` is given and no strength helps, it only reduces descriptors to their principal
        directions about 0.

    Raises:
        FolderError: `descriptors` is not a folder of descriptors or is damaged.
        WhiteningError: fewer than two objects have two photos with a descriptor, or `dim` exceeds the number of
            directions of descriptors with more than 8,192 dimensions.
    """
    shards, names, _ = read_descriptors(descriptors)
    row_of = {name: row for row, name in enumerate(names)}
    there = np.array([row for row, name in enumerate(photos.names) if name in row_of], np.int64)
    if not len(there):
        raise WhiteningError(
            f"{descriptors} has no descriptor of any of the {len(photos.names):,} photos to learn from (such as "
            f"{photos.names[0]}): give their folder with --photos"
        )
    known = photos.take(there)
    require_pairs(known, f"{descriptors}, which has a descriptor of {len(there):,} of {len(photos.names):,} photos")
    known = known.take(_sample(known, min(MOST_PHOTOS, _NUMBERS // shards[0].shape[1]), np.random.default_rng(seed)))
    return adapt_rows(gather(shards, np.array([row_of[name] for name in known.names])), known, dim, seed)


def adapt_rows(rows: np.ndarray, known: ObjectPhotos, dim: int | None, seed: int) -> Adaptation:
    """Learns a linear adaptation from descriptors in memory, as `learn_adaptation` does.

    Args:
        rows: the descriptors, (N, D).
        known: the N photos that they describe, of which at least two objects have photos with positives.
        dim: number of dimensions to keep. None keeps all, or up to 4,096 (DIM) of more than 8,192 (WIDE).
        seed: random seed of the choice of folds and queries.
    """
    rng, size = np.random.default_rng(seed), rows.shape[1]
    rows = l2_normalize(rows)
    V = directions(rows)
    z = rows @ V.T.astype(np.float32)
    kept = min(DIM, len(V)) if dim is None and size > WIDE else dim
    if size > WIDE and kept is not None and kept > len(V):
        raise WhiteningError(
            f"--dim must be at most {len(V):,}, the directions of the descriptors of {len(rows):,} photos, got {dim}"
        )
    learnable = with_positives(known)
    learned_from = f"{len(rows):,} photos of {len(np.unique(known.place[learnable])):,} objects"
    strength, account = _choose(z, known, size, (dim, kept), rng)
    if strength is None and dim is None:
        return Adaptation(None, f"linear: the network is left as it is: {learned_from}: {account}")
    taken = Strength() if strength is None else strength
    W = fit_linear(z[learnable], known.place[learnable], taken, size)
    reduced = "" if strength else f", which are reduced to {dim} dimensions without adaptation"
    return Adaptation(as_projection(V, W, z, kept), f"linear: learned from {learned_from}{reduced}: {account}")


def _sample(photos: ObjectPhotos, most: int, rng: np.random.Generator) -> np.ndarray:
    """Chooses whole objects at random, those with positives first, and at most MOST_OF_OBJECT photos of each."""
    order = rng.permutation(len(photos.names))
    order = order[np.argsort(photos.place[order], kind="stable")]
    number = np.arange(len(order)) - np.searchsorted(photos.place[order], photos.place[order])
    order = order[number < MOST_OF_OBJECT]
    if len(order) <= most:
        return np.sort(order)
    places = np.unique(photos.place)
    good = np.isin(places, photos.place[order[with_positives(photos.take(order))]])
    rank = np.empty(int(places.max()) + 1)
    rank[places] = rng.permutation(len(places)) + len(places) * ~good
    order = order[np.argsort(rank[photos.place[order]], kind="stable")]
    return np.sort(order[:most])


def _choose(
    z: np.ndarray, photos: ObjectPhotos, size: int, dims: tuple[int | None, int | None], rng: np.random.Generator
) -> tuple[Strength | None, str]:
    """Chooses a strength, None for none, and gives the reason.

    Args:
        z: descriptors in the basis, (N, r).
        photos: the N photos.
        size: number of dimensions of descriptors.
        dims: number of dimensions that are kept without and with an adaptation.
        rng: random generator.
    """
    able = with_positives(photos)
    places = rng.permutation(np.unique(photos.place[able]))
    if len(places) < LEAST_OBJECTS:
        return None, f"whether others gain can be compared with {LEAST_OBJECTS} objects or more: add photos of others"
    folds = _folds(places, int(able.sum()))
    queries = np.flatnonzero(able & np.isin(photos.place, np.concatenate(folds)))
    queries = np.sort(rng.permutation(queries)[:MOST_QUERIES])
    before = np.full(len(queries), np.nan)
    after = np.full((len(STRENGTHS), len(queries)), np.nan)
    change = np.zeros((len(STRENGTHS), len(folds)))
    with progress("adaptations", len(folds) * len(STRENGTHS)) as advance:
        for number, fold in enumerate(folds):
            held = np.isin(photos.place, fold)
            learned, own = np.flatnonzero(able & ~held), np.flatnonzero(held[queries])
            similar = _similarities(z, np.eye(z.shape[1]), learned, dims[0], queries[own])
            before[own] = _average_precisions(similar, photos, queries[own])
            for row, strength in enumerate(STRENGTHS):
                W = fit_linear(z[learned], photos.place[learned], strength, size)
                adapted = _similarities(z, W, learned, dims[1], queries[own])
                after[row, own] = _average_precisions(adapted, photos, queries[own])
                change[row, number] = np.abs(adapted - similar).mean()
                advance(1)
    of = np.unique(photos.place[queries], return_inverse=True)[1].ravel()
    count = np.bincount(of)
    found = [
        Comparison(strength, np.bincount(of, after[row] - before) / count, float(change[row].mean()))
        for row, strength in enumerate(STRENGTHS)
    ]
    chosen = choose(found)
    said = f"mAP of {len(queries):,} photos of {len(count):,} objects that were held out {{}}, among {len(z):,} photos"
    mean_before = float((np.bincount(of, before) / count).mean())
    if chosen is None:
        best = max(found, key=lambda one: one.gains.mean())
        gain = f"{mean_before:.4f}, with the best of {len(found)} adaptations {mean_before + best.gains.mean():.4f}"
        return None, f"{said.format(gain)}, a difference that chance explains ({best.chance:.2f})"
    gain = f"{mean_before:.4f} before, {mean_before + chosen.gains.mean():.4f} after"
    return chosen.strength, f"{chosen.strength}; {said.format(gain)} (probability of chance {chosen.chance:.3f})"


def choose(found: Sequence[Comparison]) -> Comparison | None:
    """Chooses an adaptation by the rule of this module.

    Args:
        found: the comparisons, all of the same objects.

    Returns:
        The chosen one; None if no adaptation raises the mAP of held-out objects by more than chance explains.
    """
    able = [one for one in found if one.chance <= SIGNIFICANT]
    if not able:
        return None
    best = max(able, key=lambda one: one.gains.mean())
    close = []
    for one in able:
        behind = best.gains - one.gains
        if behind.mean() <= behind.std(ddof=1) / np.sqrt(len(behind)):
            close.append(one)
    return min(close, key=lambda one: one.change)


def _folds(places: np.ndarray, photos: int) -> list[np.ndarray]:
    if len(places) <= _FEW_OBJECTS:
        return np.split(places, len(places))
    if photos <= _FEW_PHOTOS:
        return np.array_split(places, 5)
    return [places[: max(LEAST_OBJECTS, len(places) // 5)]]


def _similarities(
    z: np.ndarray, W: np.ndarray, learned: np.ndarray, dim: int | None, queries: np.ndarray
) -> np.ndarray:
    """Returns the cosine similarity of each query to each photo, (Q, N), after an adaptation to `dim` dimensions."""
    y = z @ W.T.astype(np.float32)
    if dim is not None and dim < y.shape[1]:
        y = y @ principal(y[learned].astype(np.float64))[:, :dim].astype(np.float32)
    y = l2_normalize(y)
    return y[queries] @ y.T


def _average_precisions(similar: np.ndarray, photos: ObjectPhotos, queries: np.ndarray) -> np.ndarray:
    found = np.empty(len(queries))
    for number, (row, query) in enumerate(zip(similar, queries.tolist(), strict=True)):
        ignored = photos.place == photos.place[query]
        positive = ignored & (photos.relevant == photos.relevant[query])
        positive[query] = False
        if photos.copies[query] >= 0:
            positive &= photos.copies != photos.copies[query]
        order = np.argsort(-row[positive | ~ignored], kind="stable")
        positions = np.flatnonzero(positive[positive | ~ignored][order])
        found[number] = average_precision(positions, len(positions))
    return found
