"""Which pairs of photos are worth matching: neighbours by descriptor, then neighbours of verified neighbours."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from keras_retrieval.ranking.nearest import nearest_others

from .colmap import Pair, load_colmap, ordered, photo_name
from .visual_words import make_vocabulary

AGREED = 0.4  # of what speaks for and against a pair
CAPPED = 100  # matches: a pair with more is no better as a bridge to other photos
_QUERY_ROWS = 1000  # the features of a photo, largest first, that are looked up


def all_pairs(names: Sequence[str]) -> list[Pair]:
    """Every pair: n (n - 1) / 2."""
    return list(combinations(sorted(names), 2))


def nearest_pairs(names: Sequence[str], rows: np.ndarray, k: int) -> list[Pair]:
    """Each photo with k photos of near descriptors, those first that have it among their 2 k nearest, too.

    Args:
        names: of the photos.
        rows: (len(names), D) unit rows; a row of NaN takes no part.
        k: how many each photo chooses.

    Returns:
        The pairs, in order of their names.
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
    """Each row's neighbours (N, m), stably sorted so that those for whom it is one of m come first."""
    count, width = near.shape
    codes = np.arange(count)[:, None] * count + near
    mutual = np.isin(near * count + np.arange(count)[:, None], codes)
    order = np.argsort(~mutual, axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1).reshape(count, width)


def bridged_pairs(inliers: Mapping[Pair, int], k: int, least: int, among: Collection[str]) -> list[Pair]:
    """Each photo with the k photos that its verified neighbours recommend, of those not tried with it yet.

    A photo that is verified with a neighbour is recommended with the weaker of the two pairs' matches, at most
    `CAPPED`. A neighbour of one of the two that was tried with the other in vain speaks against it with as many, and
    the recommendations must be `AGREED` of both together.

    Args:
        inliers: the matches of each pair that was tried, 0 for one in vain.
        k: how many each photo chooses.
        least: the matches a pair needs to count as verified.
        among: of each new pair one photo must be one of these.

    Returns:
        The pairs, in order of their names.
    """
    verified: dict[str, dict[str, int]] = defaultdict(dict)
    in_vain: dict[str, set[str]] = defaultdict(set)
    for (one, other), count in inliers.items():
        if count >= least:
            verified[one][other] = verified[other][one] = min(count, CAPPED)
        else:
            in_vain[one].add(other)
            in_vain[other].add(one)
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
            if matches >= AGREED * (matches + _against(photo, other, verified, in_vain))
        ]
        best = sorted(agreed, key=lambda other: (-support[other], other))[:k]
        chosen.update(ordered(photo, other) for other in best)
    return sorted(chosen)


def _support(photo: str, verified: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    support: dict[str, int] = defaultdict(int)
    for bridge, matches in verified[photo].items():
        for other, more in verified[bridge].items():
            if other != photo:
                support[other] += min(matches, more)
    return support


def _against(
    one: str, other: str, verified: Mapping[str, Mapping[str, int]], in_vain: Mapping[str, Collection[str]]
) -> int:
    return sum(
        matches
        for here, there in ((one, other), (other, one))
        for bridge, matches in verified[here].items()
        if bridge in in_vain.get(there, ())
    )


def vocabulary_pairs(database: Path, names: Sequence[str], k: int, vocabulary: Path | None) -> list[Pair]:
    """Each photo with the k photos that share most visual words with it, by COLMAP's own index.

    Local features find what a photo's one descriptor misses: a part of one object in a photo of another.

    Args:
        database: with the features of all photos.
        names: the photos that choose.
        k: how many each of them chooses.
        vocabulary: COLMAP's vocabulary tree, a file that is there; None makes one of the photos' own features, beside
            the database, and anew when the photos have doubled. Photos too poor in features for one are all paired.

    Returns:
        The pairs, in order of their names.
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
