"""Approximate nearest-neighbour search with ScaNN, in memory, for one use of many rows."""

import math

import numpy as np

from keras_retrieval.errors import ArgumentError, missing_extra

REORDER = 10  # number of candidates that are scored exactly, as a multiple of k
LEAF_SHARE = 0.1  # share of the tree's leaves that is searched for each query
LEAST_LEAVES = (
    20  # minimum number of leaves to search: ScaNN's trees differ between builds, and with few leaves so does recall
)
TRAINING_ROWS = 250_000  # maximum number of rows on which the tree is trained


def approximate_neighbours(queries: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Finds the approximate nearest neighbours of each query with ScaNN.

    The index has a tree, asymmetric hashing and exact rescoring. It is built anew in each call.

    Args:
        queries: (Q, D) descriptors of the queries.
        rows: (N, D) descriptors of the database; all values must be finite.
        k: number of neighbours of each query.

    Returns:
        (Q, min(k, N)) int64 indexes into `rows` of the largest inner products, best first. Where the search found fewer
        neighbours, the indexes are padded with -1.

    Raises:
        MissingExtraError: ScaNN is not installed.
        ArgumentError: a value in `rows` is not finite, which would crash ScaNN.
    """
    try:
        from scann import scann_ops_pybind
    except ImportError as error:
        raise missing_extra("ScaNN", "index", error) from error
    if not np.isfinite(rows).all():
        raise ArgumentError("descriptors must be finite to be searched with ScaNN")
    rows, queries = (np.ascontiguousarray(array, np.float32) for array in (rows, queries))
    k = min(k, len(rows))
    leaves = max(1, round(math.sqrt(len(rows))))
    searched = min(leaves, max(LEAST_LEAVES, round(LEAF_SHARE * leaves)))
    builder = scann_ops_pybind.builder(rows, 1, "dot_product")
    builder = builder.tree(leaves, searched, training_sample_size=min(len(rows), TRAINING_ROWS))
    searcher = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(REORDER).build()
    found, scores = searcher.search_batched(
        queries, final_num_neighbors=k, pre_reorder_num_neighbors=min(REORDER * k, len(rows))
    )
    # ScaNN pads its results with id 0 and a score of NaN.
    return np.where(np.isfinite(scores), found.astype(np.int64), -1)
