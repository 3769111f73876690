"""Diffusion: ranking of database images by proximity on the neighbour graph of the database (Iscen et al. CVPR 2017).

The nodes of the graph are the rows of the database, which are descriptors. In the shapes, Q is the number of queries, N
the number of rows, and D the number of dimensions of the descriptors.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ..errors import ArgumentError
from .likely_matches import LikelyMatches
from .nearest import CHUNK, nearest, nearest_others
from .rows import Advance, Database, as_rows, count_rows, gather, ranges


@dataclass(frozen=True)
class Graph:
    """An undirected weighted graph without self-loops, stored as the non-zero entries of its N x N weight matrix W.

    W is symmetric, so that each edge is stored as two entries.

    Attributes:
        size: the number N of nodes.
        rows: the row of each of the E entries, (E,) int64, in non-decreasing order.
        columns: the column of each entry, (E,) int64.
        weights: the value of each entry, (E,) float64, above 0.
        shares: the share of each entry's weight over which diffusion spreads, (E,) float64 between 0 and 1. The degrees
            are those of the whole weights, so that little flows from a node whose edges are all unlikely. None for 1.
    """

    size: int
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    shares: np.ndarray | None = None

    def dot(self, f: np.ndarray) -> np.ndarray:
        """Computes the product of the weight matrix, times the shares if there are any, and a vector f (N,).

        Returns:
            The product, (N,) float64.
        """
        weights = self.weights if self.shares is None else self.weights * self.shares
        return np.bincount(self.rows, weights * f[self.columns], self.size)

    def degrees(self) -> np.ndarray:
        """Computes the degree of each node, the sum of the weights of its edges, (N,) float64; 0 without edges."""
        return np.bincount(self.rows, self.weights, self.size)

    def restrict(self, nodes: np.ndarray) -> "Graph":
        """Makes the subgraph of some nodes and of all edges between them.

        Args:
            nodes: the numbers of the nodes, (n,) integers, without duplicates.

        Returns:
            The subgraph, in which the nodes are numbered 0..n-1 in the given order.
        """
        entries, counts = self._entries(nodes)
        place = np.full(self.size, -1)
        place[nodes] = np.arange(len(nodes))
        columns = place[self.columns[entries]]
        inside = columns >= 0
        rows = np.repeat(np.arange(len(nodes)), counts)
        shares = None if self.shares is None else self.shares[entries][inside]
        return Graph(len(nodes), rows[inside], columns[inside], self.weights[entries][inside], shares)

    def around(self, nodes: np.ndarray, hops: int) -> np.ndarray:
        """Finds all nodes that can be reached from one of the given nodes over at most `hops` edges.

        Edges with the share 0 are not used.

        Args:
            nodes: the numbers of the given nodes, (n,) integers.
            hops: the largest number of edges of a path, at least 0; with 0 only the given nodes are returned.

        Returns:
            The numbers of the nodes, including the given nodes, int64 in ascending order.
        """
        seen = np.zeros(self.size, bool)
        seen[nodes] = True
        frontier = np.asarray(nodes)
        for _ in range(hops):
            reached = np.zeros(self.size, bool)
            entries, _ = self._entries(frontier)
            if self.shares is not None:
                entries = entries[self.shares[entries] > 0]
            reached[self.columns[entries]] = True
            frontier = np.flatnonzero(reached & ~seen)
            if not len(frontier):
                break
            seen[frontier] = True
        return np.flatnonzero(seen)

    def _entries(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the positions of the entries in the rows of the given nodes, and the number of entries per node."""
        starts, ends = (np.searchsorted(self.rows, nodes, side=side) for side in ("left", "right"))
        return ranges(starts, ends), ends - starts


Region: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, Graph, np.ndarray]]


def mutual_graph(
    database: Database,
    k: int = 50,
    gamma: float = 3.0,
    *,
    likely: LikelyMatches | None = None,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> Graph:
    """Builds the graph of mutual k nearest neighbours of a database.

    Two rows are connected if each is among the k rows most similar to the other and their similarity s, the inner
    product, is above 0. The weight of the edge is s^gamma.

    Args:
        database: L2-normalised descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D).
        k: number of nearest neighbours of each row, at least 1; a row is not its own neighbour.
        gamma: exponent of the similarities, above 0. The larger gamma is, the smaller are the weights of dissimilar
            pairs.
        likely: likely matches among the same N images, whose weights are the shares of the edges; None for 1.
        chunk: number of rows that are searched at a time, which limits the memory.
        advance: function that is called with the number of rows whose neighbours were found since its last call, to
            show progress; None for no such calls.

    Returns:
        The graph, with N nodes.

    Raises:
        ArgumentError: `k` is below 1, `gamma` is not above 0, or the database has no rows.
        DescriptorError: a descriptor contains NaN or an infinite number.
    """
    if k < 1:
        raise ArgumentError(f"k of the neighbour graph must be at least 1, got {k}")
    if not gamma > 0:
        raise ArgumentError(f"gamma of the neighbour graph must be above 0, got {gamma}")
    indexes, scores = nearest_others(database, k, chunk=chunk, advance=advance)
    if likely is not None:
        likely.learn(database, scores)
    size = len(indexes)
    rows, columns = np.repeat(np.arange(size), indexes.shape[1]), indexes.ravel()
    pairs = np.minimum(rows, columns) * size + np.maximum(rows, columns)
    order = np.argsort(pairs)
    twice = order[1:][pairs[order[1:]] == pairs[order[:-1]]]
    twice = twice[scores.ravel()[twice] > 0]
    rows, columns = rows[twice], columns[twice]
    shares = None if likely is None else likely.of_rows(rows, columns[:, None])[:, 0].astype(np.float64)
    return _symmetric(rows, columns, scores.ravel()[twice].astype(np.float64) ** gamma, size, shares)


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
    likely: LikelyMatches | None = None,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks the rows of a database for each query by diffusion on the neighbour graph (Iscen et al. CVPR 2017).

    The vector f of the scores of all rows solves (I - alpha S) f = y. S = D^-1/2 W D^-1/2 is the weight matrix W of the
    graph, normalised by the degrees D of the nodes. y is max(s, 0)^gamma for the `seeds` rows with the largest
    similarity s to the query, and 0 for all other rows. The system is solved by conjugate gradient, starting at f = 0.
    Because each iteration changes f only at nodes one edge further away from the seeds, the system is restricted to the
    nodes within reach, which does not change the result. Rows with f = 0 are ranked last, by similarity, with score 0.

    For a large database, `truncate` restricts the graph to the rows nearest to each query, and D contains the degrees
    of the restricted graph. If `graph` is None as well, the neighbours are searched only among these rows, so that the
    graph of the whole database is not needed.

    Args:
        queries: descriptors of the queries, (Q, D), L2-normalised.
        database: L2-normalised descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D).
        k: number of rows in each ranking, at least 1; all N if there are fewer.
        graph: the neighbour graph of the database, from `mutual_graph`, so that it is built once for several calls;
            None builds it in this call.
        truncate: number of rows nearest to each query to which the graph is restricted, at least 1; None for all rows.
        neighbours: number of nearest neighbours in a graph that is built in this call.
        seeds: number of nearest rows for which y is not 0, at least 1.
        gamma: exponent of the similarities, in y and in a graph that is built in this call.
        alpha: weight of the graph, at least 0 and below 1; the larger alpha is, the farther f spreads from the seeds.
        iterations: largest number of iterations of conjugate gradient, at least 1.
        likely: likely matches among the same N images. Their weights multiply y, and are the shares of the edges of a
            graph that is built in this call. Rows that diffusion reaches over likely matches are then ranked first, and
            a query without likely matches is ranked by similarity. None for the published method.
        chunk: number of rows that are searched at a time, which limits the memory.
        advance: function that is called with the number of queries ranked since its last call, to show progress; None
            for no such calls.

    Returns:
        Row numbers, (Q, min(k, N)) int64, and scores f, (Q, min(k, N)) float32, best first. If `truncate` is smaller
        than k, the rows after the first `truncate` have score 0.

    Raises:
        ArgumentError: an argument is out of range, or the number of nodes of the graph is not N.
        DescriptorError: a descriptor contains NaN or an infinite number.
    """
    queries, size = as_rows(queries, "queries"), count_rows(database)
    _check(k, truncate, seeds, alpha, iterations)
    if graph is not None and graph.size != size:
        raise ArgumentError(
            f"graph must have one node per row of the database, got {graph.size} nodes for {size} rows: build it again"
        )
    if truncate is None:
        graph = graph or mutual_graph(database, neighbours, gamma, likely=likely, chunk=chunk)
        region = _reach(graph, seeds, iterations)
    else:
        seeds, region = min(seeds, truncate), _candidates(graph, database, truncate, neighbours, gamma, likely)
    first, similarities = nearest(queries, database, max(k, seeds, truncate or 0), chunk=chunk)
    sources = np.maximum(similarities[:, :seeds].astype(np.float64), 0) ** gamma
    if likely is not None:
        sources *= likely.of_queries(queries, first[:, :seeds])
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
    """Solves the linear system of diffusion, (I - alpha D^-1/2 W D^-1/2) f = y, by conjugate gradient from f = 0.

    W is the weight matrix of the graph, and D the diagonal matrix of the degrees of its nodes.

    Args:
        graph: the graph, with N nodes.
        y: the right-hand side, (N,).
        alpha: weight of the graph, at least 0 and below 1.
        iterations: largest number of iterations. The solver stops earlier if the norm of the residual is at most 1e-8
            times the norm of y.
        degrees: the degrees of the nodes, (N,), in the larger graph of which `graph` is a part; None for the degrees in
            `graph`.

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
    """Makes the function that selects the part of the graph that conjugate gradient can reach from a query's seeds.

    Returns:
        A function that takes the query's ranking by similarity and returns the selected nodes (n,), their subgraph,
        and their degrees (n,) in the whole graph.
    """
    degrees = graph.degrees()

    def region(ranking: np.ndarray) -> tuple[np.ndarray, Graph, np.ndarray]:
        nodes = graph.around(ranking[:seeds], iterations)
        return nodes, graph.restrict(nodes), degrees[nodes]

    return region


def _candidates(
    graph: Graph | None,
    database: Database,
    truncate: int,
    neighbours: int,
    gamma: float,
    likely: LikelyMatches | None,
) -> Region:
    """Makes the function that restricts the graph to the first `truncate` rows of a query's ranking.

    Returns:
        A function that takes the query's ranking by similarity and returns the first rows (n,), the graph of these
        rows, and their degrees (n,) in this graph.
    """

    def region(ranking: np.ndarray) -> tuple[np.ndarray, Graph, np.ndarray]:
        nodes = ranking[:truncate]
        if graph:
            part = graph.restrict(nodes)
        else:
            part = mutual_graph(gather(database, nodes), neighbours, gamma)
            if likely is not None:
                shares = likely.of_rows(nodes[part.rows], nodes[part.columns][:, None])[:, 0]
                part = replace(part, shares=shares.astype(np.float64))
        return nodes, part, part.degrees()

    return region


def _rank(nodes: np.ndarray, f: np.ndarray, first: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks the nodes with f > 0 by f, then the other rows in the order of the ranking `first`; k rows in total."""
    order = np.argsort(-f, kind="stable")
    order = order[f[order] > 0]
    indexes = np.concatenate([nodes[order], first[~np.isin(first, nodes[order])]])[:k]
    return indexes, np.concatenate([f[order], np.zeros(len(first))])[:k]


def _symmetric(
    rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, size: int, shares: np.ndarray | None = None
) -> Graph:
    """Makes a graph from undirected edges, each of which is given once."""
    rows, columns = np.concatenate([rows, columns]), np.concatenate([columns, rows])
    order = np.argsort(rows, kind="stable")
    twice = None if shares is None else np.concatenate([shares, shares])[order]
    return Graph(size, rows[order], columns[order], np.concatenate([weights, weights])[order], twice)


def _check(k: int, truncate: int | None, seeds: int, alpha: float, iterations: int) -> None:
    least = {"k": k, "truncate": 1 if truncate is None else truncate, "seeds": seeds, "iterations": iterations}
    for name, value in least.items():
        if value < 1:
            raise ArgumentError(f"{name} of diffusion must be at least 1, got {value}")
    if not 0 <= alpha < 1:
        raise ArgumentError(f"alpha of diffusion must be at least 0 and below 1, got {alpha}")
