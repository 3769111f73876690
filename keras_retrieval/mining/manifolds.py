"""Training tuples from descriptors alone: mining on manifolds (Iscen et al. CVPR 2018).

Photos of one object lie on a manifold, along which neighbours of neighbours lead from one view to the next; two photos
may be near each other without such a way. Letters: N photos, D dimensions, A anchors.

>>> rows = without_mean(descriptors)
>>> graph = mutual_graph(rows, 30)
>>> positives, negatives = mine_manifolds(rows, graph, local_maxima(graph))
"""

import numpy as np

from ..ranking.diffusion import Graph, diffusion
from ..ranking.nearest import CHUNK, nearest
from ..ranking.rows import Advance, Database, blocks, count_rows, l2_normalize, require_finite

_AT_ONCE = 1024  # anchors


def without_mean(database: Database) -> np.ndarray:
    """The rows without the mean of all, L2-normalised: what all photos have in common tells none from another.

    Args:
        database: (N, D), L2-normalised, or its shards in order.

    Returns:
        (N, D) float32.

    Raises:
        ValueError: there are no rows, one is not finite, or shapes do not fit.
    """
    count = count_rows(database)
    if not count:
        raise ValueError("there are no descriptors to mine")
    total = np.zeros(())
    for first, piece in blocks(database, CHUNK):
        require_finite(piece, "row", first)
        total = total + piece.sum(axis=0, dtype=np.float64)
    mean = total / count
    return np.concatenate([l2_normalize(piece - mean.astype(np.float32)) for _, piece in blocks(database, CHUNK)])


def local_maxima(graph: Graph) -> np.ndarray:
    """The nodes of a graph that the random walk on it visits more often than each of their neighbours, rising.

    There many photos meet that are alike. The walk on an undirected graph visits a node in proportion to its degree;
    among equals the lower number counts as visited more often. A node without neighbours is none.
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
    """Hard positives and hard negatives of anchors.

    Those near along the manifold, by diffusion from the anchor, but not in the Euclidean space are positives; those
    near in the Euclidean space but not along the manifold are negatives. Besides rows and graph what 1024 anchors need
    is held.

    Args:
        rows: (N, D), from `without_mean`.
        graph: their `mutual_graph`; 30 neighbours are published.
        anchors: (A,) numbers of rows; `local_maxima` are published.
        alike: how many nearest rows of either kind are compared for positives: fewer than an object has photos.
        unlike: how many are compared for negatives: more than an object has photos.
        truncate: how many of an anchor's nearest rows the diffusion from it runs on.
        chunk: the rows of one piece of the search.
        advance: called with the number of anchors just done.

    Returns:
        positives (A, alike) and negatives (A, unlike), rows, the nearest of their kind first; -1 fills up.

    Raises:
        ValueError: an argument outside of its range, a graph of another size, NaN in a row.
    """
    if min(alike, unlike) < 1:
        raise ValueError(f"alike and unlike are 1 or more, not {alike}, {unlike}")
    k = 1 + max(alike, unlike)
    positives, negatives = np.full((len(anchors), alike), -1), np.full((len(anchors), unlike), -1)
    for start in range(0, len(anchors), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
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
    """Of the first k ranked (A, m) those that are not among the first k others, and not the anchor; (A, k)."""
    ranked, others = ranked[:, : k + 1], others[:, : k + 1]
    keep = (ranked >= 0) & (ranked != own[:, None])
    keep &= ~(ranked[:, :, None] == others[:, None, :]).any(axis=2)
    order = np.argsort(~keep, axis=1, kind="stable")
    found = np.take_along_axis(np.where(keep, ranked, -1), order, axis=1)[:, :k]
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)
