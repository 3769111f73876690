"""From verified pairs to groups of photos, and from the models of these groups to clusters."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from .colmap import Pair

Node = TypeVar("Node", str, int)

LEAST_INLIERS = 15  # COLMAP's own bound for a verified pair


def connected(nodes: Iterable[Node], edges: Iterable[tuple[Node, Node]]) -> list[list[Node]]:
    """The connected parts of a graph: each sorted, the largest first, then by their first nodes.

    Args:
        nodes: all of them; one without edges is a part of its own.
        edges: between nodes.
    """
    root = {node: node for node in nodes}

    def find(node: Node) -> Node:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for one, other in edges:
        root[find(one)] = find(other)
    parts: dict[Node, list[Node]] = defaultdict(list)
    for node in root:
        parts[find(node)].append(node)
    return sorted((sorted(part) for part in parts.values()), key=lambda part: (-len(part), part[0]))


def merge_models(models: Sequence[Sequence[str]]) -> list[list[int]]:
    """Models that share a photo belong to one cluster.

    Args:
        models: the registered photos of each model.

    Returns:
        The numbers of the models of each cluster, the cluster of the lowest number first.
    """
    seen_in: dict[str, int] = {}
    shared = [(seen_in.setdefault(photo, number), number) for number, photos in enumerate(models) for photo in photos]
    return sorted(connected(range(len(models)), shared))


def same_objects(clusters: Sequence[Sequence[str]], inliers: Mapping[Pair, int]) -> list[tuple[int, int]]:
    """Clusters that may show the same object, and so are no negatives of each other.

    Verified pairs run between them, directly or through photos that no model registers. COLMAP's own bound counts,
    however strict the user is with what is mapped: a false negative harms training more than a lost one.

    Args:
        clusters: the photos of each.
        inliers: the matches of the tried pairs.

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
