"""Connected components of a graph."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

Node = TypeVar("Node", str, int)


def connected(nodes: Iterable[Node], edges: Iterable[tuple[Node, Node]]) -> list[list[Node]]:
    """Finds the connected components of an undirected graph.

    Args:
        nodes: all nodes of the graph, strings or integers; a node without edges is a component of its own.
        edges: the pairs of nodes that are connected by an edge. Both must be in `nodes`.

    Returns:
        The components as sorted lists of nodes, the largest component first. Components of equal size are sorted by
        their first node.

    Raises:
        KeyError: an edge has a node that is not in `nodes`.
    """
    root = {node: node for node in nodes}

    def find(node: Node) -> Node:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for one, other in edges:
        root[find(one)] = find(other)
    components: dict[Node, list[Node]] = defaultdict(list)
    for node in root:
        components[find(node)].append(node)
    return sorted((sorted(part) for part in components.values()), key=lambda part: (-len(part), part[0]))
