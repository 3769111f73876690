"""Diffusion: rank by closeness along the database's own neighbour graph (Iscen et al. CVPR 2017)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .nearest import CHUNK, nearest, nearest_others
from .rows import Advance, Database, as_rows, count_rows, gather


@dataclass(frozen=True)
class Graph:
    """A symmetric weighted graph W without loops, as its non-zero entries in the order of their rows.

    Attributes:
        size: the number of nodes N.
        rows: the row of each entry, (E,) int64, never falling.
        columns: the column of each entry, (E,) int64.
        weights: the entry, > 0, (E,) float64.
    """

    size: int
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    def dot(self, f: np.ndarray) -> np.ndarray:
        """W f for f (N,), in float64."""
        return np.bincount(self.rows, self.weights * f[self.columns], self.size)

    def degrees(self) -> np.ndarray:
        """The sum of each row of W, (N,); 0 for a node without neighbours."""
        return np.bincount(self.rows, self.weights, self.size)

    def restrict(self, nodes: np.ndarray) -> "Graph":
        """The graph of these nodes (n,) alone, numbered 0..n-1 in the order given."""
        entries, counts = self._entries(nodes)
        place = np.full(self.size, -1)
        place[nodes] = np.arange(len(nodes))
        columns = place[self.columns[entries]]
        inside = columns >= 0
        rows = np.repeat(np.arange(len(nodes)), counts)
        return Graph(len(nodes), rows[inside], columns[inside], self.weights[entries][inside])

    def around(self, nodes: np.ndarray, hops: int) -> np.ndarray:
        """The nodes within so many hops of the given ones, these included, in rising order."""
        seen = np.zeros(self.size, bool)
        seen[nodes] = True
        edge = np.asarray(nodes)
        for _ in range(hops):
            reached = np.zeros(self.size, bool)
            reached[self.columns[self._entries(edge)[0]]] = True
            edge = np.flatnonzero(reached & ~seen)
            if not len(edge):
                break
            seen[edge] = True
        return np.flatnonzero(seen)

    def _entries(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The positions of these rows' entries, one row after the other, and how many each row has."""
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
    """The mutual k-nearest-neighbour graph: max(s, 0)^gamma where each row is among the k nearest of the other.

    Args:
        database: (N, D), L2-normalised, or its shards in order.
        k: how many neighbours; a row is not its own.
        gamma: how much less a less similar pair weighs, > 0.
        chunk: the rows of one piece of the search.
        advance: called with the number of rows whose neighbours have just been found.

    Returns:
        A graph of N nodes. Pairs of similarity 0 or below have no edge.

    Raises:
        ValueError: k below 1, gamma not above 0, no rows, NaN in a row.
    """
    if k < 1 or gamma <= 0:
        raise ValueError(f"a neighbour graph needs k >= 1 and gamma > 0, not k={k}, gamma={gamma}")
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
    """The first k rows by diffusion: f solves (I - alpha S) f = y (Iscen et al. CVPR 2017).

    S = D^-1/2 W D^-1/2 is the graph W scaled by its degrees D; y is max(s, 0)^gamma on the query's `seeds` nearest
    rows. Conjugate gradient starts at 0 and reaches one hop further with each iteration, so only the nodes within
    that reach are touched, without a change to the result. Rows that f does not reach follow the others in the
    order of their similarity, with score 0.

    For a large database, `truncate` solves on the query's first rows only, W cut to them and scaled anew. Without a
    `graph`, the neighbours are then found among these rows, and nothing needs to be prepared.

    Args:
        queries: (Q, D), L2-normalised.
        database: (N, D), L2-normalised, or its shards in order.
        k: how many rows; all N where there are fewer.
        graph: the database's `mutual_graph`, to be built once for many calls; None builds it here.
        truncate: how many of the query's first rows take part; None for all.
        neighbours: k of a graph built here.
        seeds: how many of the query's first rows y starts from.
        gamma: the power of similarities, in y and in a graph built here.
        alpha: how far f spreads, 0 <= alpha < 1.
        iterations: of conjugate gradient at most.
        chunk: the rows of one piece of the search.
        advance: called with the number of queries just done, one by one.

    Returns:
        indexes (Q, min(k, N)) int64 and scores f (Q, min(k, N)) float32, best first.

    Raises:
        ValueError: an argument outside of its range, a graph of another size, NaN in a row.
    """
    queries, size = as_rows(queries, "queries"), count_rows(database)
    _check(k, truncate, seeds, alpha, iterations)
    if graph is not None and graph.size != size:
        raise ValueError(f"the graph has {graph.size} nodes and the database {size} rows: build it again")
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
    """Conjugate gradient on (I - alpha D^-1/2 W D^-1/2) f = y, from f = 0.

    Args:
        graph: W, of N nodes.
        y: (N,).
        alpha: 0 <= alpha < 1.
        iterations: the most; it ends earlier where the residual is 1e-8 of y.
        degrees: D, (N,), where W is part of a larger graph; None takes those of W.

    Returns:
        f, (N,) float64.
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
    """The part of the whole graph that conjugate gradient can reach from a query's first rows."""
    degrees = graph.degrees()

    def region(ranking: np.ndarray) -> tuple[np.ndarray, Graph, np.ndarray]:
        nodes = graph.around(ranking[:seeds], iterations)
        return nodes, graph.restrict(nodes), degrees[nodes]

    return region


def _candidates(graph: Graph | None, database: Database, truncate: int, neighbours: int, gamma: float) -> Region:
    """The graph among a query's first rows alone, with its own degrees."""

    def region(ranking: np.ndarray) -> tuple[np.ndarray, Graph, np.ndarray]:
        nodes = ranking[:truncate]
        part = graph.restrict(nodes) if graph else mutual_graph(gather(database, nodes), neighbours, gamma)
        return nodes, part, part.degrees()

    return region


def _rank(nodes: np.ndarray, f: np.ndarray, first: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nodes of the largest f > 0, then the query's first rows that are not among them."""
    order = np.argsort(-f, kind="stable")
    order = order[f[order] > 0]
    indexes = np.concatenate([nodes[order], first[~np.isin(first, nodes[order])]])[:k]
    return indexes, np.concatenate([f[order], np.zeros(len(first))])[:k]


def _symmetric(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, size: int) -> Graph:
    """A graph from its edges, each given once."""
    rows, columns = np.concatenate([rows, columns]), np.concatenate([columns, rows])
    order = np.argsort(rows, kind="stable")
    return Graph(size, rows[order], columns[order], np.concatenate([weights, weights])[order])


def _check(k: int, truncate: int | None, seeds: int, alpha: float, iterations: int) -> None:
    least = {"k": k, "truncate": 1 if truncate is None else truncate, "seeds": seeds, "iterations": iterations}
    for name, value in least.items():
        if value < 1:
            raise ValueError(f"diffusion needs {name} >= 1, not {value}")
    if not 0 <= alpha < 1:
        raise ValueError(f"diffusion needs 0 <= alpha < 1, not {alpha}")
