"""Diffusion: ranking by proximity on the neighbour graph of the database (Iscen et al. CVPR 2017)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..errors import ArgumentError
from .nearest import CHUNK, nearest, nearest_others
from .rows import Advance, Database, as_rows, count_rows, gather


@dataclass(frozen=True)
class Graph:
    """A symmetric weighted graph W without loops, stored as its non-zero entries in row order.

    Attributes:
        size: the number of nodes N.
        rows: the row of each entry, (E,) int64, in non-decreasing order.
        columns: the column of each entry, (E,) int64.
        weights: the value of each entry, (E,) float64, above 0.
    """

    size: int
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    def dot(self, f: np.ndarray) -> np.ndarray:
        """Computes the product W f for f (N,), in float64."""
        return np.bincount(self.rows, self.weights * f[self.columns], self.size)

    def degrees(self) -> np.ndarray:
        """The sum of each row of W, (N,); 0 for a node without neighbours."""
        return np.bincount(self.rows, self.weights, self.size)

    def restrict(self, nodes: np.ndarray) -> "Graph":
        """The induced subgraph of nodes (n,), which are numbered 0..n-1 in the given order."""
        entries, counts = self._entries(nodes)
        place = np.full(self.size, -1)
        place[nodes] = np.arange(len(nodes))
        columns = place[self.columns[entries]]
        inside = columns >= 0
        rows = np.repeat(np.arange(len(nodes)), counts)
        return Graph(len(nodes), rows[inside], columns[inside], self.weights[entries][inside])

    def around(self, nodes: np.ndarray, hops: int) -> np.ndarray:
        """The nodes at a distance of at most `hops` from the given nodes, including these, in ascending order."""
        seen = np.zeros(self.size, bool)
        seen[nodes] = True
        frontier = np.asarray(nodes)
        for _ in range(hops):
            reached = np.zeros(self.size, bool)
            reached[self.columns[self._entries(frontier)[0]]] = True
            frontier = np.flatnonzero(reached & ~seen)
            if not len(frontier):
                break
            seen[frontier] = True
        return np.flatnonzero(seen)

    def _entries(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The positions of the entries of these rows, row by row, and the number of entries of each row."""
        starts = np.searchsorted(self.rows, nodes)
        counts = np.searchsorted(self.rows, nodes, side="right") - starts
        shift = starts - (np.cumsum(counts) - counts)
        return np.repeat(shift, counts) + np.arange(counts.sum()), counts


Region: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, Graph, np.ndarray]]


def mutual_graph(
    database: Database,
    k: int = 50,
    gamma: float = 3.0,
    *,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> Graph:
    """Builds the mutual k-nearest-neighbour graph, with the weight max(s, 0)^gamma between mutual neighbours.

    Args:
        database: descriptors of the database, (N, D), L2-normalised, or its shards in order.
        k: number of neighbours; a row is not its own neighbour.
        gamma: exponent of the similarities, above 0; the larger it is, the less dissimilar pairs weigh.
        chunk: number of rows that are searched at a time.
        advance: called with the number of rows whose neighbours were found since the last call.

    Returns:
        A graph with N nodes. Pairs with a similarity of 0 or below have no edge.

    Raises:
        ArgumentError: `k` is below 1, `gamma` is not above 0, or the database has no rows.
        DescriptorError: a row contains NaN or an infinite number.
    """
    if k < 1:
        raise ArgumentError(f"k of the neighbour graph must be at least 1, got {k}")
    if not gamma > 0:
        raise ArgumentError(f"gamma of the neighbour graph must be above 0, got {gamma}")
    indexes, scores = nearest_others(database, k, chunk=chunk, advance=advance)
    size = len(indexes)
    rows, columns = np.repeat(np.arange(size), indexes.shape[1]), indexes.ravel()
    pairs = np.minimum(rows, columns) * size + np.maximum(rows, columns)
    order = np.argsort(pairs)
    twice = order[1:][pairs[order[1:]] == pairs[order[:-1]]]
    twice = twice[scores.ravel()[twice] > 0]
    return _symmetric(rows[twice], columns[twice], scores.ravel()[twice].astype(np.float64) ** gamma, size)


def diffusion(
    queries: np.ndarray,
    database: Database,
    k: int,
    *,
    graph: Graph | None = None,
    truncate: int | None = None,
    neighbours: int = 50,
    seeds: int = 10,
    gamma: float = 3.0,
    alpha: float = 0.99,
    iterations: int = 20,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks by diffusion: the score f of the rows solves (I - alpha S) f = y (Iscen et al. CVPR 2017).

    S = D^-1/2 W D^-1/2 is the graph W normalised by its degrees D; y is max(s, 0)^gamma on the `seeds` nearest rows of
    the query and 0 elsewhere. Conjugate gradient starts at 0, and each iteration reaches nodes one hop further, so
    that restricting the system to the nodes within reach does not change the result. Rows with f = 0 are ranked after
    the others by similarity, with score 0.

    For a large database, `truncate` restricts the graph to the nearest rows of each query, with the degrees of the
    restricted graph. Without `graph`, the neighbours are then searched among these rows only, and no preparation is
    needed.

    Args:
        queries: descriptors of the queries, (Q, D), L2-normalised.
        database: descriptors of the database, (N, D), L2-normalised, or its shards in order.
        k: number of rows in each ranking; all N if there are fewer.
        graph: the `mutual_graph` of the database, to share it between calls; None builds it.
        truncate: number of nearest rows of each query to which the graph is restricted; None for all rows.
        neighbours: number of neighbours in a graph built here.
        seeds: number of nearest rows where y is not 0.
        gamma: exponent of the similarities in y and in a graph that is built here.
        alpha: weight of the graph, at least 0 and below 1; the larger it is, the farther f spreads.
        iterations: largest number of iterations of conjugate gradient.
        chunk: number of rows that are searched at a time.
        advance: called with the number of queries ranked since the last call.

    Returns:
        Indexes (Q, min(k, N)) int64 and scores f (Q, min(k, N)) float32, best first.

    Raises:
        ArgumentError: an argument is out of range, or the graph has another number of nodes.
        DescriptorError: a row contains NaN or an infinite number.
    """
    queries, size = as_rows(queries, "queries"), count_rows(database)
    _check(k, truncate, seeds, alpha, iterations)
    if graph is not None and graph.size != size:
        raise ArgumentError(
            f"graph must have one node per row of the database, got {graph.size} nodes for {size} rows: build it again"
        )
    if truncate is None:
        region = _reach(graph or mutual_graph(database, neighbours, gamma, chunk=chunk), seeds, iterations)
    else:
        seeds, region = min(seeds, truncate), _candidates(graph, database, truncate, neighbours, gamma)
    first, similarities = nearest(queries, database, max(k, seeds, truncate or 0), chunk=chunk)
    sources = np.maximum(similarities[:, :seeds].astype(np.float64), 0) ** gamma
    indexes = np.empty((len(queries), min(k, size)), np.int64)
    scores = np.empty(indexes.shape, np.float32)
    for row, ranking in enumerate(first):
        nodes, part, degrees = region(ranking)
        y = np.where(nodes[:, None] == ranking[:seeds], sources[row], 0).sum(axis=1)
        f = solve(part, y, alpha=alpha, iterations=iterations, degrees=degrees)
        indexes[row], scores[row] = _rank(nodes, f, ranking, indexes.shape[1])
        if advance:
            advance(1)
    return indexes, scores


def solve(
    graph: Graph,
    y: np.ndarray,
    *,
    alpha: float = 0.99,
    iterations: int = 20,
    degrees: np.ndarray | None = None,
) -> np.ndarray:
    """Solves (I - alpha D^-1/2 W D^-1/2) f = y by conjugate gradient, starting at f = 0.

    Args:
        graph: the graph W, with N nodes.
        y: the right-hand side, (N,).
        alpha: weight of the graph, at least 0 and below 1.
        iterations: largest number of iterations; fewer if the norm of the residual falls below 1e-8 of that of y.
        degrees: the degrees D, (N,), if W is part of a larger graph; None for the degrees of W.

    Returns:
        The solution f, (N,) float64.
    """
    degrees = graph.degrees() if degrees is None else degrees
    scale = np.sqrt(np.divide(1.0, degrees, out=np.zeros(graph.size), where=degrees > 0))
    f, residual = np.zeros(graph.size), np.asarray(y, np.float64)
    direction, energy = residual, residual @ residual
    enough = 1e-16 * energy
    for _ in range(iterations):
        if energy <= enough:
            break
        image = direction - alpha * scale * graph.dot(scale * direction)
        step = energy / (direction @ image)
        f, residual = f + step * direction, residual - step * image
        energy, before = residual @ residual, energy
        direction = residual + energy / before * direction
    return f


def _reach(graph: Graph, seeds: int, iterations: int) -> Region:
    """Makes a function from a ranking to the part of the graph that conjugate gradient can reach from its seeds."""
    degrees = graph.degrees()

    def region(ranking: np.ndarray) -> tuple[np.ndarray, Graph, np.ndarray]:
        nodes = graph.around(ranking[:seeds], iterations)
        return nodes, graph.restrict(nodes), degrees[nodes]

    return region


def _candidates(graph: Graph | None, database: Database, truncate: int, neighbours: int, gamma: float) -> Region:
    """Makes a function from a ranking to the graph among its first rows, with the degrees of this graph."""

    def region(ranking: np.ndarray) -> tuple[np.ndarray, Graph, np.ndarray]:
        nodes = ranking[:truncate]
        part = graph.restrict(nodes) if graph else mutual_graph(gather(database, nodes), neighbours, gamma)
        return nodes, part, part.degrees()

    return region


def _rank(nodes: np.ndarray, f: np.ndarray, first: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The nodes with f > 0 in descending order, then the other rows of the ranking `first`; k in total."""
    order = np.argsort(-f, kind="stable")
    order = order[f[order] > 0]
    indexes = np.concatenate([nodes[order], first[~np.isin(first, nodes[order])]])[:k]
    return indexes, np.concatenate([f[order], np.zeros(len(first))])[:k]


def _symmetric(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, size: int) -> Graph:
    """Makes a graph from undirected edges, each given once."""
    rows, columns = np.concatenate([rows, columns]), np.concatenate([columns, rows])
    order = np.argsort(rows, kind="stable")
    return Graph(size, rows[order], columns[order], np.concatenate([weights, weights])[order])


def _check(k: int, truncate: int | None, seeds: int, alpha: float, iterations: int) -> None:
    least = {"k": k, "truncate": 1 if truncate is None else truncate, "seeds": seeds, "iterations": iterations}
    for name, value in least.items():
        if value < 1:
            raise ArgumentError(f"{name} of diffusion must be at least 1, got {value}")
    if not 0 <= alpha < 1:
        raise ArgumentError(f"alpha of diffusion must be at least 0 and below 1, got {alpha}")
