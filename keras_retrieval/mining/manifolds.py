"""Training tuples from descriptors alone: mining on manifolds (Iscen et al. CVPR 2018).

The descriptors of an object's photos lie on a manifold, where chains of neighbours connect different views. Photos of
different objects can be near each other without being connected. Letters: N photos, D dimensions, A anchors.

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
    """Subtracts the mean of all rows and L2-normalises, which removes what all photos have in common.

    Args:
        database: descriptors of the database, (N, D), L2-normalised, or its shards in order.

    Returns:
        The centred rows, (N, D) float32.

    Raises:
        ArgumentError: the database has no rows, or the shapes of the shards do not match.
        DescriptorError: a row contains NaN or an infinite number.
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
    """Finds the nodes that a random walk visits more often than each of their neighbours, in ascending order.

    These are photos in dense regions of the graph. A random walk on an undirected graph visits a node in proportion to
    its degree; among neighbours of equal degree only the one with the lowest number is a maximum. Nodes without
    neighbours are not included.
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
    """Selects hard positives and hard negatives of anchors.

    Hard positives are near on the manifold, by diffusion from the anchor, but not in Euclidean space. Hard negatives
    are near in Euclidean space but not on the manifold. Anchors are processed 1024 at a time, which limits the memory.

    Args:
        rows: the descriptors, (N, D), from `without_mean`.
        graph: the `mutual_graph` of the rows, with 30 neighbours in the paper.
        anchors: row numbers of the anchors, (A,); the `local_maxima` in the paper.
        alike: number of nearest rows, on the manifold and in Euclidean space, that are compared for positives. Should
            be below the number of photos of an object.
        unlike: number of nearest rows that are compared for negatives. Should exceed the number of photos of an object.
        truncate: number of an anchor's nearest rows in the diffusion.
        chunk: number of rows that are searched at a time.
        advance: called with the number of anchors processed since the last call.

    Returns:
        Indexes of positives (A, alike) and negatives (A, unlike), nearest first, filled up with -1.

    Raises:
        ArgumentError: an argument is out of range, or the graph has another number of nodes.
        DescriptorError: a row contains NaN or an infinite number.
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
    """The first k of `ranked` (A, m) that are neither among the first k of `others` nor the anchor itself; (A, k)."""
    ranked, others = ranked[:, : k + 1], others[:, : k + 1]
    keep = (ranked >= 0) & (ranked != own[:, None])
    keep &= ~(ranked[:, :, None] == others[:, None, :]).any(axis=2)
    order = np.argsort(~keep, axis=1, kind="stable")
    found = np.take_along_axis(np.where(keep, ranked, -1), order, axis=1)[:, :k]
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)
