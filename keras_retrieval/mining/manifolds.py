"""Mining of training tuples from descriptors alone, by mining on manifolds (Iscen et al. CVPR 2018).

The descriptors of an object's photos lie on a manifold, on which chains of nearest neighbours connect different views.
Photos of different objects can have near descriptors without being connected by such chains. In the shapes, N is the
number of photos, D the dimension of the descriptors, and A the number of anchors, which are the queries of the tuples.

>>> rows = without_mean(descriptors)
>>> graph = mutual_graph(rows, 30)
>>> positives, negatives = mine_manifolds(rows, graph, local_maxima(graph))
"""

import numpy as np

from ..errors import ArgumentError
from ..ranking.diffusion import Graph, diffusion
from ..ranking.nearest import CHUNK, nearest
from ..ranking.rows import Advance, Database, blocks, count_rows, l2_normalize, require_finite

_BATCH = 1024  # anchors that are processed at a time


def without_mean(database: Database) -> np.ndarray:
    """Subtracts the mean of all descriptors from each descriptor and L2-normalises the result.

    This removes the component that all photos have in common.

    Args:
        database: L2-normalised descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D).

    Returns:
        The centred and normalised descriptors, (N, D) float32.

    Raises:
        ArgumentError: the database has no rows, or the shapes of the arrays do not match.
        DescriptorError: a descriptor contains NaN or an infinite number.
    """
    count = count_rows(database)
    if not count:
        raise ArgumentError("the database has no rows to mine")
    total = np.zeros(())
    for first, piece in blocks(database, CHUNK):
        require_finite(piece, "row", first)
        total = total + piece.sum(axis=0, dtype=np.float64)
    mean = total / count
    return np.concatenate([l2_normalize(piece - mean.astype(np.float32)) for _, piece in blocks(database, CHUNK)])


def local_maxima(graph: Graph) -> np.ndarray:
    """Finds the nodes of a neighbour graph that a random walk visits more often than each of their neighbours.

    These nodes are photos in dense regions of the graph, which the paper uses as anchors (Iscen et al. CVPR 2018). A
    random walk on an undirected graph visits a node in proportion to its degree, the sum of the weights of its edges.
    Of neighbours with equal degrees, the one with the lowest number counts as visited more often.

    Args:
        graph: the neighbour graph of the photos, from `ranking.diffusion.mutual_graph`.

    Returns:
        The numbers of the nodes, int64, in ascending order; nodes without neighbours are not included.
    """
    degrees = graph.degrees()
    rank = np.empty(graph.size, np.int64)
    rank[np.argsort(-degrees, kind="stable")] = np.arange(graph.size)
    best = np.full(graph.size, graph.size)
    np.minimum.at(best, graph.rows, rank[graph.columns])
    return np.flatnonzero((degrees > 0) & (rank < best))


def mine_manifolds(
    rows: np.ndarray,
    graph: Graph,
    anchors: np.ndarray,
    alike: int = 50,
    unlike: int = 50,
    *,
    truncate: int = 2000,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Selects hard positives and hard negatives for anchors by mining on manifolds (Iscen et al. CVPR 2018).

    Hard positives are near the anchor on the manifold, as measured by diffusion, but not in Euclidean space. Hard
    negatives are near the anchor in Euclidean space but not on the manifold. Anchors are processed 1024 at a time,
    which limits the memory.

    Args:
        rows: the descriptors of N photos, (N, D), from `without_mean`.
        graph: the neighbour graph of the rows, from `ranking.diffusion.mutual_graph`; with 30 neighbours in the paper.
        anchors: row numbers of the photos to mine for, (A,) integers; those from `local_maxima` in the paper.
        alike: positives are those of the `alike` rows nearest on the manifold that are not among the `alike` rows
            nearest in Euclidean space. At least 1; should be below the number of photos of an object.
        unlike: negatives are those of the `unlike` rows nearest in Euclidean space that are not among the `unlike` rows
            nearest on the manifold. At least 1; should exceed the number of photos of an object.
        truncate: number of an anchor's nearest rows to which its diffusion is restricted.
        chunk: number of rows that are searched at a time, which limits the memory.
        advance: function that is called with the number of anchors processed since its last call, to show progress;
            None for no such calls.

    Returns:
        Row numbers of the positives, (A, alike), nearest on the manifold first, and of the negatives, (A, unlike),
        nearest in Euclidean space first; both padded with -1.

    Raises:
        ArgumentError: an argument is out of range, or the number of nodes of the graph is not N.
        DescriptorError: a descriptor contains NaN or an infinite number.
    """
    for name, value in (("alike", alike), ("unlike", unlike)):
        if value < 1:
            raise ArgumentError(f"{name} must be at least 1, got {value}")
    k = 1 + max(alike, unlike)
    positives, negatives = np.full((len(anchors), alike), -1), np.full((len(anchors), unlike), -1)
    for start in range(0, len(anchors), _BATCH):
        part = slice(start, start + _BATCH)
        own = rows[anchors[part]]
        near = nearest(own, rows, k, chunk=chunk)[0]
        along, scores = diffusion(
            own, rows, k, graph=graph, truncate=max(k, truncate), seeds=1, chunk=chunk, advance=advance
        )
        along = np.where(scores > 0, along, -1)
        positives[part] = _without(along, near, anchors[part], alike)
        negatives[part] = _without(near, along, anchors[part], unlike)
    return positives, negatives


def _without(ranked: np.ndarray, others: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """Removes, from the first k + 1 entries of each ranking, the anchor and the first k + 1 entries of another ranking.

    Args:
        ranked: row numbers of the ranking of each anchor, (A, m), padded with -1.
        others: row numbers of the other ranking of each anchor, (A, m), padded with -1.
        own: row number of each anchor, (A,).
        k: number of entries to return.

    Returns:
        The remaining entries in order, (A, k), padded with -1.
    """
    ranked, others = ranked[:, : k + 1], others[:, : k + 1]
    keep = (ranked >= 0) & (ranked != own[:, None])
    keep &= ~(ranked[:, :, None] == others[:, None, :]).any(axis=2)
    order = np.argsort(~keep, axis=1, kind="stable")
    found = np.take_along_axis(np.where(keep, ranked, -1), order, axis=1)[:, :k]
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)
