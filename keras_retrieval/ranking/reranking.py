"""Better rankings at query time, without training: query expansion, database augmentation, re-ranking, diffusion.

Everything works on L2-normalised descriptors, queries (Q, D) and a database (N, D) or its shards, and gives either
descriptors or a ranking (indexes, scores), so that the steps combine in any sensible order: augment the database,
search, re-rank the first 400, expand the queries from that ranking, search again.
"""

import numpy as np

from .diffusion import Graph as Graph
from .diffusion import diffusion as diffusion
from .diffusion import mutual_graph as mutual_graph
from .nearest import CHUNK, nearest_others
from .nearest import nearest as nearest
from .rows import Advance, Database, as_rows, gather, l2_normalize

_FLOATS = 2**24


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
    """alphaQE (Radenovic et al. TPAMI 2018): q' = L2(q + sum over n neighbours of max(s_i, 0)^alpha x_i).

    s_i is the similarity of q and x_i. alpha = 0 is average query expansion; n = 0 leaves the queries as they are.

    Args:
        queries: (Q, D).
        database: (N, D), or its shards in order.
        n: how many of the first rows are added; all N where there are fewer.
        alpha: how much less a less similar row weighs, >= 0.
        indexes: the ranking to take the rows from, (Q, n or more), best first; None searches.
        chunk: the rows of one piece of the search.
        advance: called with the number of database rows just searched.

    Returns:
        (Q, D) float32, L2-normalised.

    Raises:
        ValueError: n or alpha below 0, shapes that do not fit, NaN in a row.
    """
    queries = as_rows(queries, "queries")
    if n < 0 or alpha < 0:
        raise ValueError(f"query expansion needs n >= 0 and alpha >= 0, not n={n}, alpha={alpha}")
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
    """Database augmentation: alphaQE of every row with its n nearest other rows (Gordo et al. IJCV 2017).

    The row itself, which is its own nearest neighbour, is not added a second time.

    Args:
        database: (N, D), or its shards in order.
        n: how many rows are added; N - 1 where there are fewer.
        alpha: how much less a less similar row weighs, >= 0; 0 is the average. None weighs by rank, 1, (n - 1) / n ..
            1 / n, as the code published with the paper does.
        chunk: the rows of one piece of the search.
        advance: called with the number of rows whose neighbours have just been found.

    Returns:
        (N, D) float32, L2-normalised.

    Raises:
        ValueError: n or alpha below 0, no rows, NaN in a row.
    """
    if n < 0 or (alpha is not None and alpha < 0):
        raise ValueError(f"database augmentation needs n >= 0 and alpha >= 0, not n={n}, alpha={alpha}")
    shards = [database] if isinstance(database, np.ndarray) else database
    rows = np.concatenate([as_rows(shard, "the database") for shard in shards])
    if n == 0:
        return rows
    indexes, _ = nearest_others(rows, n, chunk=chunk, advance=advance)
    return _expand(rows, rows, indexes, alpha)


def rerank(
    queries: np.ndarray, database: Database, indexes: np.ndarray, *, neighbours: int = 9, beta: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """Re-ranks the first M rows by refined descriptors, as SuperGlobal does (Shao et al. ICCV 2023, section on
    re-ranking: "Global Features are All You Need for Image Retrieval and Reranking").

    Among the M rows alone: each is refined to the mean of itself, with weight 1, and of its `neighbours` most
    similar rows, with weights beta max(s, 0). The query is compared with the refined rows (S1). A second query is
    the element-wise maximum of the neighbours + 1 refined rows that S1 puts first, compared with all (S2). The score
    is (S1 + S2) / 2. Neither is normalised in between, as in the authors' published code. The paper's regional and
    multi-scale GeM are another part and not in here.

    To re-rank the head of a longer ranking: `ranking[:, :400] = rerank(queries, database, ranking[:, :400])[0]`.

    Args:
        queries: (Q, D).
        database: (N, D), or its shards in order.
        indexes: the rows to re-rank, (Q, M); the paper has M = 400.
        neighbours: K, how many rows refine a row; M - 1 where there are fewer.
        beta: the weight of the neighbours, >= 0; at 0 a row is not refined.

    Returns:
        indexes (Q, M) int64 and scores (Q, M) float32, best first, equals in the order in which they came.

    Raises:
        ValueError: neighbours or beta below 0, shapes that do not fit, an index outside of the database.
    """
    queries = as_rows(queries, "queries")
    if neighbours < 0 or beta < 0:
        raise ValueError(f"re-ranking needs neighbours >= 0 and beta >= 0, not {neighbours} and {beta}")
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
    """The weighted mean of each row (M, D) and its nearest others, as one M x M product."""
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

    Without an alpha the i-th neighbour, from 0, weighs (n - i) / n.
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


def _ranking(indexes: np.ndarray, queries: int) -> np.ndarray:
    indexes = np.asarray(indexes)
    if indexes.ndim != 2 or len(indexes) != queries or indexes.dtype.kind not in "iu":
        raise ValueError(f"indexes must be integers of the shape ({queries}, n), not {indexes.shape}")
    return indexes.astype(np.int64, copy=False)
