"""Approximate nearest neighbours of many descriptors, by ScaNN."""

import math

import numpy as np

from keras_retrieval.mining.hard_negatives import Search

REORDER = 10  # how many times k candidates are scored exactly
SHARE_OF_LEAVES = 0.1  # of the tree's leaves that a query looks into
LEAST_LEAVES = 20  # that it looks into: ScaNN's trees are never twice the same, and with few leaves luck decides


def scann_search(rows: np.ndarray) -> Search:
    """Builds a tree with asymmetric hashing and reordering over descriptors that are held in memory.

    Args:
        rows: (N, D), finite.

    Returns:
        A function of queries (Q, D) and k: the rows (Q, k) int64 of the nearest by inner product, best first, -1
        where the search has found fewer.

    Raises:
        ImportError: ScaNN is not installed.
        ValueError: a row is not finite, which would end the process.
    """
    try:
        from scann import scann_ops_pybind
    except ImportError as error:
        raise ImportError(f'ScaNN is not installed ({error}): pip install "keras-retrieval[index]"') from error
    if not np.isfinite(rows).all():
        raise ValueError("descriptors must be finite to be searched")
    rows = np.ascontiguousarray(rows, np.float32)
    leaves = max(1, round(math.sqrt(len(rows))))
    builder = scann_ops_pybind.builder(rows, 1, "dot_product")
    looked_into = min(leaves, max(LEAST_LEAVES, round(SHARE_OF_LEAVES * leaves)))
    builder = builder.tree(leaves, looked_into, training_sample_size=min(len(rows), 250_000))
    searcher = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(REORDER).build()

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        k = min(k, len(rows))
        queries = np.ascontiguousarray(queries, np.float32)
        found, scores = searcher.search_batched(
            queries, final_num_neighbors=k, pre_reorder_num_neighbors=min(REORDER * k, len(rows))
        )
        # ScaNN fills up with id 0 and a score of NaN.
        return np.where(np.isfinite(scores), found.astype(np.int64), -1)

    return search
