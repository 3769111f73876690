"""Clusters of models that show one object, and which clusters may show the same object."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from ..files.components import connected
from .colmap import Pair

LEAST_INLIERS = 15  # COLMAP's own bound for a verified pair


def merge_models(models: Sequence[Sequence[str]]) -> list[list[int]]:
    """Groups models into clusters: models that share a photo are of one cluster.

    Args:
        models: the registered photos of each model.

    Returns:
        For each cluster the sorted numbers of its models, ordered by the lowest number.
    """
    seen_in: dict[str, int] = {}
    shared = [(seen_in.setdefault(photo, number), number) for number, photos in enumerate(models) for photo in photos]
    return sorted(connected(range(len(models)), shared))


def same_objects(clusters: Sequence[Sequence[str]], inliers: Mapping[Pair, int]) -> list[tuple[int, int]]:
    """Finds clusters that may show the same object and must not be negatives of each other.

    They are connected by verified pairs, directly or through photos that no model registers. Every pair above COLMAP's
    own bound counts, even if the user maps only stronger pairs: a false negative harms training more than a lost one.

    Args:
        clusters: the photos of each cluster.
        inliers: the number of inlier matches of each tried pair.

    Returns:
        Pairs of numbers of clusters, the lower first.
    """
    verified = [pair for pair, count in inliers.items() if count >= LEAST_INLIERS]
    group_of = {
        photo: number
        for number, group in enumerate(connected({photo for pair in verified for photo in pair}, verified))
        for photo in group
    }
    in_group: dict[int, set[int]] = defaultdict(set)
    for number, photos in enumerate(clusters):
        for photo in photos:
            in_group[group_of[photo]].add(number)
    return sorted({pair for numbers in in_group.values() for pair in combinations(sorted(numbers), 2)})
