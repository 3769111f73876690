"""Groups COLMAP models into clusters that show one object each, and finds clusters that may show the same object."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from ..files.components import connected
from .colmap import Pair

LEAST_INLIERS = 15  # COLMAP's default minimum for a verified pair


def merge_models(models: Sequence[Sequence[str]]) -> list[list[int]]:
    """Groups models into clusters, so that models that share a registered photo are in the same cluster.

    Args:
        models: for each model, the names of its registered photos.

    Returns:
        For each cluster, the sorted indices into `models` of its models. Clusters are sorted by their lowest index.
    """
    seen_in: dict[str, int] = {}
    shared = [(seen_in.setdefault(photo, number), number) for number, photos in enumerate(models) for photo in photos]
    return sorted(connected(range(len(models)), shared))


def same_objects(clusters: Sequence[Sequence[str]], inliers: Mapping[Pair, int]) -> list[tuple[int, int]]:
    """Finds clusters that may show the same object, so that their photos must not be negatives of each other.

    Two clusters may show the same object if a chain of verified pairs connects them, directly or through photos that
    are in no model. Every pair with at least 15 inliers (`LEAST_INLIERS`) counts as verified here, even if the user
    required more inliers for reconstruction, because a false negative harms training more than a missing negative.

    Args:
        clusters: for each cluster, the names of its photos.
        inliers: maps each pair of photos that has been matched to its number of inliers, which are matches consistent
            with one geometry.

    Returns:
        Pairs of indices into `clusters`, sorted, the lower index first.
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
