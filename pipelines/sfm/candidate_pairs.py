"""Chooses candidate pairs of photos to match: by nearest descriptors, common verified neighbours, or visual words.

A verified pair is a pair of photos with enough inliers, which are matches of local features that are consistent with
one geometry. A rejected pair was matched and has too few inliers. Two photos of a verified pair are called verified
neighbours.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from keras_retrieval.errors import MissingExtraError
from keras_retrieval.ranking.nearest import nearest_others

from ..descriptors.approximate_search import approximate_neighbours
from .colmap import Pair, load_colmap, ordered, photo_name
from .near_photos import Nearness, nearest_of_near
from .visual_words import make_vocabulary

log = logging.getLogger("keras_retrieval")

AGREED = 0.4  # minimum share of the votes that must support a pair
CAPPED = 100  # maximum number of inliers of a pair that count in a vote
APPROXIMATE_FROM = 20_000  # photos above which the nearest ones are found approximately
_QUERY_ROWS = 1000  # features of a photo, largest first, that are looked up in the vocabulary


def all_pairs(names: Sequence[str]) -> list[Pair]:
    """Returns all n (n - 1) / 2 pairs of n photos.

    Args:
        names: the names of the photos.

    Returns:
        The pairs of names, sorted.
    """
    return list(combinations(sorted(names), 2))


def nearest_pairs(names: Sequence[str], rows: np.ndarray, k: int, nearness: Nearness | None = None) -> list[Pair]:
    """Pairs each photo with k of its 2 k nearest photos, preferring mutual neighbours.

    Two photos are mutual neighbours if each is among the 2 k nearest photos of the other.

    Args:
        names: the names of the n photos.
        rows: the L2-normalised descriptors of the photos, (n, D); a row of NaN excludes its photo.
        k: the number of photos with which each photo is paired. A photo may be in more than k pairs, because other
            photos may choose it.
        nearness: the positions of the same photos and the distance within which they may be paired; a photo without a
            position may be paired with any photo. None for no restriction.

    Returns:
        The pairs of names, sorted.
    """
    usable = np.flatnonzero(~np.isnan(rows).any(axis=1))
    if len(usable) < 2:
        return []
    if nearness is None:
        near = _nearest(rows[usable], 2 * k)
    else:
        near = nearest_of_near(rows[usable], 2 * k, nearness.of([names[row] for row in usable.tolist()]))
    chosen = {
        ordered(names[usable[row]], names[usable[other]])
        for row, others in enumerate(_mutual_first(near))
        for other in others[:k]
        if other >= 0
    }
    return sorted(chosen)


def _nearest(rows: np.ndarray, k: int) -> np.ndarray:
    """The numbers (n, k) of the other rows nearest to each row, -1 for none; approximate for many rows, with ScaNN."""
    if len(rows) <= APPROXIMATE_FROM:
        return nearest_others(rows, k)[0]
    try:
        found = approximate_neighbours(rows, rows, k + 1)
    except MissingExtraError:
        log.warning(
            f"{len(rows):,} photos are compared with each other exactly, which takes long: "
            'pip install "keras-retrieval[index]" makes it faster'
        )
        return nearest_others(rows, k)[0]
    own = found == np.arange(len(rows))[:, None]
    order = np.argsort(own | (found < 0), axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(own, order, axis=1), -1, np.take_along_axis(found, order, axis=1))


def _mutual_first(near: np.ndarray) -> np.ndarray:
    """Sorts the neighbours (N, m) of each row stably, so that mutual neighbours come first; -1 stands for none."""
    count, width = near.shape
    codes = np.arange(count)[:, None] * count + near
    mutual = (near >= 0) & np.isin(near * count + np.arange(count)[:, None], codes[near >= 0])
    order = np.argsort(~mutual, axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1).reshape(count, width)


def bridged_pairs(inliers: Mapping[Pair, int], k: int, least: int, among: Collection[str]) -> list[Pair]:
    """Pairs each photo with up to k photos that have verified neighbours in common with it.

    A matched pair is verified if it has at least `least` inliers, and rejected otherwise. Two photos of a verified pair
    are verified neighbours. A common verified neighbour of two photos votes for their pair, with the smaller of the
    numbers of inliers of its two verified pairs. A photo that has a verified pair with one of the two photos and a
    rejected pair with the other votes against their pair, with the number of inliers of its verified pair. Numbers of
    inliers count up to 100 (`CAPPED`). At least 40 % (`AGREED`) of all votes must be for the pair.

    Args:
        inliers: maps each pair that has been matched to its number of inliers, which are matches consistent with one
            geometry; 0 for a pair that COLMAP rejected. These pairs are not returned again.
        k: the largest number of photos with which each photo is paired; those with the most votes are chosen.
        least: the smallest number of inliers of a verified pair.
        among: names of photos; every returned pair contains at least one of these photos.

    Returns:
        The pairs of names, sorted.
    """
    verified: dict[str, dict[str, int]] = defaultdict(dict)
    rejected: dict[str, set[str]] = defaultdict(set)
    for (one, other), count in inliers.items():
        if count >= least:
            verified[one][other] = verified[other][one] = min(count, CAPPED)
        else:
            rejected[one].add(other)
            rejected[other].add(one)
    chosen: set[Pair] = set()
    for photo in verified:
        support = {
            other: matches
            for other, matches in _support(photo, verified).items()
            if ordered(photo, other) not in inliers and (photo in among or other in among)
        }
        agreed = [
            other
            for other, matches in support.items()
            if matches >= AGREED * (matches + _against(photo, other, verified, rejected))
        ]
        most_votes = sorted(agreed, key=lambda other: (-support[other], other))[:k]
        chosen.update(ordered(photo, other) for other in most_votes)
    return sorted(chosen)


def _support(photo: str, verified: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Counts the votes for pairing a photo with each other photo, by their common verified neighbours."""
    support: dict[str, int] = defaultdict(int)
    for neighbour, matches in verified[photo].items():
        for other, more in verified[neighbour].items():
            if other != photo:
                support[other] += min(matches, more)
    return support


def _against(
    one: str, other: str, verified: Mapping[str, Mapping[str, int]], rejected: Mapping[str, Collection[str]]
) -> int:
    """Counts the votes against a pair, by the verified neighbours of one photo that were rejected by the other."""
    return sum(
        matches
        for here, there in ((one, other), (other, one))
        for neighbour, matches in verified[here].items()
        if neighbour in rejected.get(there, ())
    )


def vocabulary_pairs(database: Path, names: Sequence[str], k: int, vocabulary: Path | None) -> list[Pair]:
    """Pairs each photo with the k photos that rank highest for it in COLMAP's index of visual words.

    Local features find pairs that a global descriptor misses, such as two photos that share only a small part of the
    scene.

    Args:
        database: the path of the COLMAP database with the local features of all photos.
        names: the names of the photos that are paired with others.
        k: the number of photos with which each of them is paired.
        vocabulary: the path of a COLMAP vocabulary tree. If None, a vocabulary is learned from the features in the
            database and stored beside the database; a new one is learned when the number of photos has doubled. If
            there are too few features to learn a vocabulary, all pairs of photos in the database are returned.

    Returns:
        The pairs of names, sorted.
    """
    colmap = load_colmap()
    with colmap.Database.open(database) as features:
        images = sorted(features.read_all_images(), key=lambda image: image.name)  # ids differ from run to run
        photo_of = {image.image_id: photo_name(image.name) for image in images}
        path = vocabulary or database.with_name(f"vocabulary-{2 ** (len(photo_of).bit_length() - 1)}.bin")
        if not path.exists() and not make_vocabulary(features, list(photo_of), path):
            return all_pairs(list(photo_of.values()))
        wanted = set(names)
        choosing = [image for image, name in photo_of.items() if name in wanted]
        options = colmap.VocabTreePairingOptions(vocab_tree_path=path, num_images=k + 1, max_num_features=_QUERY_ROWS)
        found = colmap.VocabTreePairGenerator(options, features, choosing).all_pairs()
    return sorted({ordered(photo_of[one], photo_of[other]) for one, other in found if one != other})
