"""PCA whitening of descriptors with so many dimensions D that a D x D covariance matrix does not fit in memory.

An example is NetVLAD with 32,768 dimensions. The covariance matrix of n rows has at most rank n, and its eigenvectors
can be computed from the n x n Gram matrix of the rows, the matrix of their inner products.
"""

import numpy as np

from ..errors import ArgumentError
from ..ranking.rows import Database, count_rows, gather
from .covariance import UNSEEN, Projection, fixed_sign, sorted_eigenvectors

WIDE = 8192
"""Largest number of dimensions D for which PCA is computed from the D x D covariance matrix, 0.5 GB in float64.

For descriptors with more dimensions, PCA is computed from the Gram matrix.
"""

MAX_ROWS = 8192
"""Largest number of rows in the Gram matrix."""

DIM = 4096
"""Default number of dimensions to keep, as in the NetVLAD paper (Arandjelovic et al. CVPR 2016)."""

_NUMBERS = 2**24  # values of descriptors that are read at a time, 128 MB in float64


def learn_pca_from_gram(database: Database, rows: np.ndarray, dim: int = DIM) -> Projection:
    """Learns the first rows of the PCA whitening that `fit_pca` computes, from the Gram matrix of n descriptors.

    The function needs memory for n x n and dim x D float64 values: 0.5 GB and 1.1 GB for n = 8192, the default `dim` of
    4096 and D = 32,768.

    Args:
        database: descriptors, as an array (N, D) or as a sequence of arrays (n, D), in memory or memory-mapped.
        rows: row numbers of the descriptors to learn from, (n,) integers. If there are more than 8192 (MAX_ROWS), 8192
            of them at equal intervals are used.
        dim: largest number of dimensions to keep. Directions without variance are not kept.

    Returns:
        The whitening, with the mean of the used rows as the shift m, and a projection P of the shape (d, D), d <= dim.

    Raises:
        ArgumentError: there are fewer than 2 rows, or all rows are equal.
    """
    if count_rows(database) < 2 or len(rows) < 2:
        raise ArgumentError(f"PCA whitening needs at least 2 rows, got {len(rows)}")
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_ROWS)).astype(np.int64)]
    size = max(1, _NUMBERS // gather(database, rows[:1]).shape[1])
    parts = [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    mean = np.sum([gather(database, rows[part], np.float64).sum(axis=0) for part in parts], axis=0) / len(rows)

    products = np.empty((len(rows), len(rows)))
    for number, part in enumerate(parts):
        piece = gather(database, rows[part], np.float64) - mean
        for other in parts[: number + 1]:
            block = piece @ (gather(database, rows[other], np.float64) - mean).T
            products[part, other], products[other, part] = block, block.T
    values, vectors = sorted_eigenvectors(products / len(rows))
    if values[0] <= np.finfo(np.float64).tiny:
        raise ArgumentError(f"all {len(rows)} rows are equal: they have no variance to whiten")
    kept = min(dim, int(np.count_nonzero(values > UNSEEN * values[0])))
    # The sum of the rows, weighted by an eigenvector of the Gram matrix, is an eigenvector of the covariance with the
    # length sqrt(n value).
    weights = vectors[:, :kept].T / (np.sqrt(len(rows)) * values[:kept, None])
    P = np.zeros((kept, len(mean)))
    for part in parts:
        P += weights[:, part] @ (gather(database, rows[part], np.float64) - mean)
    return Projection(mean, fixed_sign(P))
