"""Query-time methods that need no training: query expansion, database augmentation, re-ranking and diffusion.

All functions take L2-normalised descriptors: those of the queries, (Q, D), and those of the database, as an array
(N, D) or as a sequence of arrays. They return descriptors, or a ranking as a pair of row numbers and scores, so that
they can be combined. For example: augment the database, search, re-rank the first 400 rows, expand the queries with
the re-ranked rows, and search again.
"""

import numpy as np

from ..errors import ArgumentError
from .diffusion import Graph as Graph
from .diffusion import diffusion as diffusion
from .diffusion import mutual_graph as mutual_graph
from .likely_matches import LikelyMatches
from .nearest import CHUNK, nearest_others
from .nearest import nearest as nearest
from .rows import Advance, Database, as_rows, gather, l2_normalize

_FLOATS = 2**24  # values of neighbours' descriptors in memory at a time, 64 MB


def expand_queries(
    queries: np.ndarray,
    database: Database,
    n: int = 50,
    alpha: float = 3.0,
    *,
    indexes: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> np.ndarray:
    """Expands queries with alpha-weighted query expansion, alphaQE (Radenovic et al. TPAMI 2018).

    The expanded query is q' = L2(q + sum_i max(s_i, 0)^alpha x_i), where x_i are the n rows most similar to the query
    q, s_i is the inner product of q and x_i, and L2 denotes L2 normalisation. With alpha = 0, all rows have the same
    weight, as in average query expansion.

    Args:
        queries: descriptors of the queries, (Q, D), L2-normalised.
        database: L2-normalised descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D).
        n: number of most similar rows to add, at least 0; all N if there are fewer. With 0 the queries are returned
            unchanged.
        alpha: exponent of the similarities, at least 0. The larger alpha is, the smaller are the weights of dissimilar
            rows.
        indexes: row numbers of a ranking for each query, of which the first n are used, (Q, n or more) integers, best
            first; None searches the database.
        weights: further factors of the weights of these rows, (Q, n or more), such as `LikelyMatches.of_queries`; None
            for 1. They need `indexes`.
        chunk: number of rows that are searched at a time, which limits the memory.
        advance: function that is called with the number of rows searched since its last call, to show progress; None
            for no such calls.

    Returns:
        The expanded queries, (Q, D) float32, L2-normalised.

    Raises:
        ArgumentError: `n` or `alpha` is below 0, the shapes do not match, or there are `weights` without `indexes`.
        DescriptorError: a descriptor contains NaN or an infinite number; only checked if the database is searched.
    """
    queries = as_rows(queries, "queries")
    _require_not_negative("query expansion", n=n, alpha=alpha)
    if n == 0 or not len(queries):
        return queries.copy()
    if indexes is None:
        if weights is not None:
            raise ArgumentError("weights of query expansion need the indexes of the rows to which they belong")
        indexes, _ = nearest(queries, database, n, chunk=chunk, advance=advance)
    return _expand(queries, database, _ranking(indexes, len(queries))[:, :n], alpha, weights)


def augment_database(
    database: Database,
    n: int = 50,
    alpha: float | None = 3.0,
    *,
    likely: LikelyMatches | None = None,
    chunk: int = CHUNK,
    advance: Advance | None = None,
) -> np.ndarray:
    """Augments a database by adding to each descriptor its n most similar other descriptors (Gordo et al. IJCV 2017).

    The neighbours are weighted as in `expand_queries`, by max(similarity, 0)^alpha, or by rank. The sums are
    L2-normalised.

    Args:
        database: L2-normalised descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D).
        n: number of most similar rows to add, at least 0; N - 1 if there are fewer. With 0 the rows are returned
            unchanged.
        alpha: exponent of the similarities, at least 0; with 0 the weights are equal. With None, the weights depend on
            the rank of the neighbour instead, 1, (n - 1) / n, .. 1 / n, as in the published code of the paper.
        likely: likely matches of this database, whose weights multiply those of the neighbours; with alpha None, n is
            then the number of neighbours whose weight is not 0. None for the published method.
        chunk: number of rows that are searched at a time, which limits the memory.
        advance: function that is called with the number of rows whose neighbours were found since its last call, to
            show progress; None for no such calls.

    Returns:
        The augmented database, (N, D) float32, L2-normalised.

    Raises:
        ArgumentError: `n` or `alpha` is below 0, or the database has no rows.
        DescriptorError: a descriptor contains NaN or an infinite number.
    """
    _require_not_negative("database augmentation", n=n, alpha=alpha or 0)
    shards = [database] if isinstance(database, np.ndarray) else database
    rows = np.concatenate([as_rows(shard, "the database") for shard in shards])
    if n == 0:
        return rows
    if likely is None:
        indexes, _ = nearest_others(rows, n, chunk=chunk, advance=advance)
        return _expand(rows, rows, indexes, alpha)
    indexes, similarities = nearest_others(rows, max(n, likely.neighbour), chunk=chunk, advance=advance)
    likely.learn(database, similarities)
    factors = likely.of_rows(np.arange(len(rows)), indexes[:, :n])
    return _expand(rows, rows, indexes[:, :n], alpha, factors, mean=True)


def rerank(
    queries: np.ndarray,
    database: Database,
    indexes: np.ndarray,
    *,
    neighbours: int = 9,
    beta: float = 0.15,
    likely: LikelyMatches | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Re-ranks the first M rows of each query's ranking by refined descriptors, as in SuperGlobal.

    Each of the M rows is replaced by a weighted mean: the row has weight 1, and the `neighbours` most similar others of
    the M rows have the weights beta max(s, 0), where s is their inner product with the row. S1 is the inner product of
    the query and a refined row. A second query is the element-wise maximum of the `neighbours` + 1 refined rows with
    the largest S1, and S2 is the inner product of the second query and a refined row. The score of a row is
    (S1 + S2) / 2. As in the authors' published code, refined rows are not normalised. The regional and multi-scale GeM
    of the paper are not part of this function. The method was published in Shao et al. ICCV 2023, "Global Features are
    All You Need for Image Retrieval and Reranking".

    To re-rank the first rows of a longer ranking: `ranking[:, :400] = rerank(queries, database, ranking[:, :400])[0]`.

    Args:
        queries: descriptors of the queries, (Q, D), L2-normalised.
        database: L2-normalised descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D).
        indexes: row numbers of the first M rows of each query's ranking, (Q, M) integers, best first; M = 400 in the
            paper.
        neighbours: number of rows that refine a row, at least 0; M - 1 if there are fewer.
        beta: weight of the neighbours, at least 0; with 0 rows are not refined.
        likely: likely matches of the database. Their weights multiply those of the neighbours, and the second query is
            the mean, which is less sensitive to a single row than the maximum, of those of its rows that are likely
            matches of the query; without one, S2 = S1. None for the published method.

    Returns:
        Row numbers, (Q, M) int64, and scores, (Q, M) float32, best first; rows with equal scores keep the order of
        `indexes`.

    Raises:
        ArgumentError: `neighbours` or `beta` is below 0, the shapes do not match, or an index is out of range.
    """
    queries = as_rows(queries, "queries")
    _require_not_negative("re-ranking", neighbours=neighbours, beta=beta)
    ranking, scores = _ranking(indexes, len(queries)).copy(), np.zeros(np.shape(indexes), np.float32)
    if not ranking.size:
        return ranking, scores
    of_query = None if likely is None else likely.of_queries(queries, ranking)
    for row, query in enumerate(queries):
        among = None if likely is None else likely.among(ranking[row])
        wanted = None if of_query is None else of_query[row] > 0
        new = _refined_scores(query, gather(database, ranking[row]), neighbours, beta, among, wanted)
        order = np.argsort(-new, kind="stable")
        ranking[row], scores[row] = ranking[row, order], new[order]
    return ranking, scores


def _refined_scores(
    query: np.ndarray,
    rows: np.ndarray,
    neighbours: int,
    beta: float,
    among: np.ndarray | None = None,
    wanted: np.ndarray | None = None,
) -> np.ndarray:
    refined = _refine(rows, neighbours, beta, among)
    first = refined @ query
    best = np.argsort(-first, kind="stable")[: neighbours + 1]
    if wanted is not None:
        best = best[wanted[best]]
        return (first + refined @ refined[best].mean(axis=0)) / 2 if len(best) else first
    return (first + refined @ refined[best].max(axis=0)) / 2


def _refine(rows: np.ndarray, neighbours: int, beta: float, among: np.ndarray | None) -> np.ndarray:
    """Computes the weighted mean of each row (M, D) and its most similar other rows, as in `rerank`, (M, D)."""
    k = min(neighbours, len(rows) - 1)
    weights = np.eye(len(rows), dtype=np.float32)
    if k:
        similarities = rows @ rows.T
        np.fill_diagonal(similarities, -np.inf)
        nearest_rows = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        values = beta * np.maximum(np.take_along_axis(similarities, nearest_rows, 1), 0)
        if among is not None:
            values *= np.take_along_axis(among, nearest_rows, 1)
        np.put_along_axis(weights, nearest_rows, values, 1)
    return weights @ rows / weights.sum(axis=1, keepdims=True)


def _expand(
    rows: np.ndarray,
    database: Database,
    indexes: np.ndarray,
    alpha: float | None,
    factors: np.ndarray | None = None,
    mean: bool = False,
) -> np.ndarray:
    """Adds to each row (R, D) the weighted sum of its neighbours with the row numbers `indexes` (R, n).

    The sum is L2-normalised, or divided by the sum of the weights if `mean` is True; a row has the weight 1.

    The weight of a neighbour with the similarity s is max(s, 0)^alpha; if alpha is None, the weight of neighbour i,
    counted from 0, is max((n - i) / n, 0). With factors, (R, n or more), the weights are multiplied by them, and n is
    the number of factors of the row that are not 0.
    """
    expanded = np.empty_like(rows)
    count = indexes.shape[1]
    size = max(1, _FLOATS // max(1, count * rows.shape[1]))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        near = gather(database, indexes[part])
        factor = np.ones(indexes[part].shape, np.float32) if factors is None else factors[part, :count]
        if alpha is None:
            counts = np.maximum(np.count_nonzero(factor, axis=1), 1)[:, None]
            weights = np.maximum(1 - np.arange(count, dtype=np.float32) / counts, 0)
        else:
            weights = np.maximum((near @ rows[part, :, None])[..., 0], 0) ** np.float32(alpha)
        weights = weights * factor
        total = rows[part] + (weights[:, None] @ near)[:, 0]
        expanded[part] = total / (1 + weights.sum(axis=1, keepdims=True)) if mean else l2_normalize(total)
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
