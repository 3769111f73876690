"""Approximate nearest neighbours of many descriptors, by ScaNN."""

import math

import numpy as np

from keras_retrieval.errors import ArgumentError, missing_extra

REORDER = 10  # how many times k candidates are scored exactly
LEAF_SHARE = 0.1  # of the tree's leaves, which are searched for each query
LEAST_LEAVES = (
    20  # searched in any case: ScaNN's trees differ from build to build, and few leaves make recall a lottery
)
TRAINING_ROWS = 250_000  # of the tree at most


def approximate_neighbours(queries: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Finds approximate nearest rows of each query, with a tree, asymmetric hashing and reordering, all in memory.

    Args:
        queries: (Q, D).
        rows: (N, D), finite.
        k: how many to find for each query.

    Returns:
        (Q, min(k, N)) int64, the nearest rows by inner product, best first, -1 where the search found fewer.

    Raises:
        MissingExtraError: ScaNN is not installed.
        ArgumentError: a row is not finite, which would end the process.
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
    # ScaNN fills up with id 0 and a score of NaN.
    return np.where(np.isfinite(scores), found.astype(np.int64), -1)
