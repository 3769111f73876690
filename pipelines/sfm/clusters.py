"""Clusters of models that show one object, and which clusters may show the same object."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from ..files.components import connected
from .colmap import Pair

LEAST_INLIERS = 15  # COLMAP's default minimum for a verified pair


def merge_models(models: Sequence[Sequence[str]]) -> list[list[int]]:
    """Groups models into clusters: models that share a photo belong to the same cluster.

    Args:
        models: the names of each model's registered photos.

    Returns:
        For each cluster the sorted indexes of its models; clusters are ordered by their lowest index.
    """
    seen_in: dict[str, int] = {}
    shared = [(seen_in.setdefault(photo, number), number) for number, photos in enumerate(models) for photo in photos]
    return sorted(connected(range(len(models)), shared))


def same_objects(clusters: Sequence[Sequence[str]], inliers: Mapping[Pair, int]) -> list[tuple[int, int]]:
    """Finds clusters that may show the same object and must not be negatives of each other.

    These are clusters connected by verified pairs, directly or through photos that no model registers. Every pair with
    at least `LEAST_INLIERS` matches counts, even if the user maps only stronger pairs: a false negative harms training
    more than a missing one.

    Args:
        clusters: the names of each cluster's photos.
        inliers: the number of inlier matches of each tried pair.

    Returns:
        Pairs of indexes into `clusters`, the lower index first.
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
