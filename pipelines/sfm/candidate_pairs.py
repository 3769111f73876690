"""Candidate pairs for matching: nearest descriptors, verified neighbours of neighbours, common visual words."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from keras_retrieval.ranking.nearest import nearest_others

from .colmap import Pair, load_colmap, ordered, photo_name
from .visual_words import make_vocabulary

AGREED = 0.4  # minimum share of the votes that must support a pair
CAPPED = 100  # maximum number of matches of a pair that count in a vote
_QUERY_ROWS = 1000  # features of a photo, largest first, that are looked up in the vocabulary


def all_pairs(names: Sequence[str]) -> list[Pair]:
    """Returns all n (n - 1) / 2 pairs of n photos, sorted."""
    return list(combinations(sorted(names), 2))


def nearest_pairs(names: Sequence[str], rows: np.ndarray, k: int) -> list[Pair]:
    """Pairs each photo with k of its 2 k nearest photos, mutual neighbours first.

    Two photos are mutual neighbours if each is among the 2 k nearest photos of the other.

    Args:
        names: names of the photos.
        rows: (len(names), D) descriptors of unit length; NaN for a photo that must not be paired.
        k: number of photos that each photo chooses.

    Returns:
        The pairs, sorted.
    """
    usable = np.flatnonzero(~np.isnan(rows).any(axis=1))
    if len(usable) < 2:
        return []
    near, _ = nearest_others(rows[usable], 2 * k)
    chosen = {
        ordered(names[usable[row]], names[usable[other]])
        for row, others in enumerate(_mutual_first(near))
        for other in others[:k]
    }
    return sorted(chosen)


def _mutual_first(near: np.ndarray) -> np.ndarray:
    """Neighbours (N, m) of each row, stably sorted so that mutual ones, which have the row among theirs, come first."""
    count, width = near.shape
    codes = np.arange(count)[:, None] * count + near
    mutual = np.isin(near * count + np.arange(count)[:, None], codes)
    order = np.argsort(~mutual, axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1).reshape(count, width)


def bridged_pairs(inliers: Mapping[Pair, int], k: int, least: int, among: Collection[str]) -> list[Pair]:
    """Pairs each photo with up to k untried photos that have verified neighbours in common with it.

    Each common neighbour votes for the pair; its votes are the number of matches of the weaker of its two verified
    pairs, at most `CAPPED`. A neighbour of one photo whose pair with the other photo was rejected votes against the
    pair; its votes are the number of matches of its verified pair. At least a share `AGREED` of the votes must support
    the pair.

    Args:
        inliers: the number of inlier matches of each tried pair; 0 if it was rejected.
        k: number of photos that each photo chooses, most votes first.
        least: minimum number of matches of a verified pair.
        among: names of photos; each new pair must contain at least one of them.

    Returns:
        The pairs, sorted.
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
    """The votes for each other photo, by common neighbours."""
    support: dict[str, int] = defaultdict(int)
    for neighbour, matches in verified[photo].items():
        for other, more in verified[neighbour].items():
            if other != photo:
                support[other] += min(matches, more)
    return support


def _against(
    one: str, other: str, verified: Mapping[str, Mapping[str, int]], rejected: Mapping[str, Collection[str]]
) -> int:
    """The votes against a pair: neighbours of one photo whose pair with the other was rejected."""
    return sum(
        matches
        for here, there in ((one, other), (other, one))
        for neighbour, matches in verified[here].items()
        if neighbour in rejected.get(there, ())
    )


def vocabulary_pairs(database: Path, names: Sequence[str], k: int, vocabulary: Path | None) -> list[Pair]:
    """Pairs each photo with the k photos that rank highest for it in COLMAP's index of visual words.

    Local features find pairs that a global descriptor misses, such as a part of one object in a photo of another.

    Args:
        database: the COLMAP database with the features of all photos.
        names: names of the photos to find partners for.
        k: number of photos paired with each of them.
        vocabulary: a COLMAP vocabulary tree file. None learns a vocabulary from the photos' own features and stores it
            beside the database; it is learned again when the number of photos has doubled. If there are too few
            features to learn from, all pairs are returned.

    Returns:
        The pairs, sorted.
    """
    colmap = load_colmap()
    with colmap.Database.open(database) as features:
        photo_of = {image.image_id: photo_name(image.name) for image in features.read_all_images()}
        path = vocabulary or database.with_name(f"vocabulary-{2 ** (len(photo_of).bit_length() - 1)}.bin")
        if not path.exists() and not make_vocabulary(features, list(photo_of), path):
            return all_pairs(list(photo_of.values()))
        wanted = set(names)
        choosing = [image for image, name in photo_of.items() if name in wanted]
        options = colmap.VocabTreePairingOptions(vocab_tree_path=path, num_images=k + 1, max_num_features=_QUERY_ROWS)
        found = colmap.VocabTreePairGenerator(options, features, choosing).all_pairs()
    return sorted({ordered(photo_of[one], photo_of[other]) for one, other in found if one != other})
