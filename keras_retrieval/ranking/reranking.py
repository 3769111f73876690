"""Methods at query time without training: query expansion, database augmentation, re-ranking and diffusion.

All functions take L2-normalised descriptors, queries (Q, D) and a database (N, D) or its shards, and return descriptors
or a ranking (indexes, scores), so that they can be combined: augment the database, search, re-rank the first 400 rows,
expand the queries with that ranking, search again.
"""

import numpy as np

from ..errors import ArgumentError
from .diffusion import Graph as Graph
from .diffusion import diffusion as diffusion
from .diffusion import mutual_graph as mutual_graph
from .nearest import CHUNK, nearest_others
from .nearest import nearest as nearest
from .rows import Advance, Database, as_rows, gather, l2_normalize

_FLOATS = 2**24  # numbers of neighbours in memory at a time, 64 MB


def expand_queries(
    queries: np.ndarray,
    database: Database,
    n: int = 50,
    alpha: float = 3.0,
    *,
    indexes: np.ndarray | None = None,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> np.ndarray:
    """Expands queries with alphaQE: q' = L2(q + sum over n neighbours of max(s_i, 0)^alpha x_i).

    s_i is the similarity of q and x_i. With alpha = 0 it is average query expansion. Published in Radenovic et al.
    TPAMI 2018.

    Args:
        queries: descriptors of the queries, (Q, D).
        database: descriptors of the database, (N, D), or its shards in order.
        n: number of nearest rows to add; all N if there are fewer. With 0 the queries are returned unchanged.
        alpha: exponent of the similarities, at least 0; the larger it is, the less dissimilar rows weigh.
        indexes: a ranking to take the rows from, (Q, n or more), best first; None searches.
        chunk: number of rows that are searched at a time.
        advance: called with the number of database rows searched since the last call.

    Returns:
        The expanded queries, (Q, D) float32, L2-normalised.

    Raises:
        ArgumentError: `n` or `alpha` is below 0, or the shapes do not match.
        DescriptorError: a row contains NaN or an infinite number.
    """
    queries = as_rows(queries, "queries")
    _require_not_negative("query expansion", n=n, alpha=alpha)
    if n == 0 or not len(queries):
        return queries.copy()
    if indexes is None:
        indexes, _ = nearest(queries, database, n, chunk=chunk, advance=advance)
    return _expand(queries, database, _ranking(indexes, len(queries))[:, :n], alpha)


def augment_database(
    database: Database,
    n: int = 50,
    alpha: float | None = 3.0,
    *,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> np.ndarray:
    """Augments a database: alphaQE of every row with its n nearest other rows (Gordo et al. IJCV 2017).

    Args:
        database: descriptors of the database, (N, D), or its shards in order.
        n: number of nearest rows to add; N - 1 if there are fewer. With 0 the rows are returned unchanged.
        alpha: exponent of the similarities, at least 0; with 0 the weights are equal. None weights by rank instead,
            1, (n - 1) / n, .. 1 / n, as the code published with the paper does.
        chunk: number of rows that are searched at a time.
        advance: called with the number of rows whose neighbours were found since the last call.

    Returns:
        The augmented database, (N, D) float32, L2-normalised.

    Raises:
        ArgumentError: `n` or `alpha` is below 0, or the database has no rows.
        DescriptorError: a row contains NaN or an infinite number.
    """
    _require_not_negative("database augmentation", n=n, alpha=alpha or 0)
    shards = [database] if isinstance(database, np.ndarray) else database
    rows = np.concatenate([as_rows(shard, "the database") for shard in shards])
    if n == 0:
        return rows
    indexes, _ = nearest_others(rows, n, chunk=chunk, advance=advance)
    return _expand(rows, rows, indexes, alpha)


def rerank(
    queries: np.ndarray, database: Database, indexes: np.ndarray, *, neighbours: int = 9, beta: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """Re-ranks the first M rows of each query by refined descriptors: the re-ranking of SuperGlobal.

    Only the M rows are used. Each row is refined to the weighted mean of itself, with weight 1, and its `neighbours`
    most similar rows, with weights beta max(s, 0). S1 is the similarity of the query and the refined rows. A second
    query is the element-wise maximum of the `neighbours` + 1 refined rows with the largest S1; S2 is its similarity to
    the refined rows. The score is (S1 + S2) / 2. As in the authors' published code, refined rows are not normalised.
    The regional and multi-scale GeM of the paper are not part of this function. Published in Shao et al. ICCV 2023,
    "Global Features are All You Need for Image Retrieval and Reranking".

    To re-rank the head of a longer ranking: `ranking[:, :400] = rerank(queries, database, ranking[:, :400])[0]`.

    Args:
        queries: descriptors of the queries, (Q, D).
        database: descriptors of the database, (N, D), or its shards in order.
        indexes: the rows to re-rank, (Q, M); M = 400 in the paper.
        neighbours: number of rows that refine a row; M - 1 if there are fewer.
        beta: weight of the neighbours, at least 0; with 0 rows are not refined.

    Returns:
        Indexes (Q, M) int64 and scores (Q, M) float32, best first; ties keep the order of `indexes`.

    Raises:
        ArgumentError: `neighbours` or `beta` is below 0, the shapes do not match, or an index is out of range.
    """
    queries = as_rows(queries, "queries")
    _require_not_negative("re-ranking", neighbours=neighbours, beta=beta)
    ranking, scores = _ranking(indexes, len(queries)).copy(), np.zeros(np.shape(indexes), np.float32)
    if not ranking.size:
        return ranking, scores
    for row, query in enumerate(queries):
        new = _refined_scores(query, gather(database, ranking[row]), neighbours, beta)
        order = np.argsort(-new, kind="stable")
        ranking[row], scores[row] = ranking[row, order], new[order]
    return ranking, scores


def _refined_scores(query: np.ndarray, rows: np.ndarray, neighbours: int, beta: float) -> np.ndarray:
    refined = _refine(rows, neighbours, beta)
    first = refined @ query
    best = np.argsort(-first, kind="stable")[: neighbours + 1]
    return (first + refined @ refined[best].max(axis=0)) / 2


def _refine(rows: np.ndarray, neighbours: int, beta: float) -> np.ndarray:
    """The weighted mean of each row (M, D) and its nearest other rows, as one product with an M x M matrix."""
    k = min(neighbours, len(rows) - 1)
    weights = np.eye(len(rows), dtype=np.float32)
    if k:
        similarities = rows @ rows.T
        np.fill_diagonal(similarities, -np.inf)
        nearest_rows = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        values = beta * np.maximum(np.take_along_axis(similarities, nearest_rows, 1), 0)
        np.put_along_axis(weights, nearest_rows, values, 1)
    return weights @ rows / weights.sum(axis=1, keepdims=True)


def _expand(rows: np.ndarray, database: Database, indexes: np.ndarray, alpha: float | None) -> np.ndarray:
    """L2(row + sum of max(s, 0)^alpha x) for rows (R, D) and the indexes (R, n) of their neighbours, in blocks.

    If alpha is None, the weight of neighbour i, counted from 0, is (n - i) / n.
    """
    expanded = np.empty_like(rows)
    by_rank = 1 - np.arange(indexes.shape[1], dtype=np.float32)[None] / max(1, indexes.shape[1])
    size = max(1, _FLOATS // max(1, indexes.shape[1] * rows.shape[1]))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        near = gather(database, indexes[start : start + size])
        similarity = np.maximum((near @ part[:, :, None])[..., 0], 0)
        weights = by_rank if alpha is None else similarity ** np.float32(alpha)
        expanded[start : start + size] = l2_normalize(part + (weights[:, None] @ near)[:, 0])
    return expanded


def _require_not_negative(method: str, **values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ArgumentError(f"{name} of {method} must be at least 0, got {value}")


def _ranking(indexes: np.ndarray, queries: int) -> np.ndarray:
    indexes = np.asarray(indexes)
    if indexes.ndim != 2 or len(indexes) != queries or indexes.dtype.kind not in "iu":
        raise ArgumentError(
            f"indexes must be integers of the shape ({queries}, n), got {indexes.dtype} of {indexes.shape}"
        )
    return indexes.astype(np.int64, copy=False)
