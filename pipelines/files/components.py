"""components."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

Node = TypeVar("Node", str, int)


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
