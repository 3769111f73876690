"""PCA whitening of descriptors so wide that a matrix of D x D numbers does not fit: NetVLAD's 32,768 dimensions.

The covariance of n rows has no more directions than rows, and they are found from the n x n products of the rows.
"""

import numpy as np

from ..ranking.rows import Database, count_rows, gather
from .covariance import UNSEEN, Projection, falling_eigenvectors, fixed_sign

WIDE = 8192
"""Descriptors of more dimensions are whitened from MOST rows; D x D numbers in float64 would take 0.5 GB and more."""

MOST = 8192
DIM = 4096
"""Dimensions that NetVLAD keeps (Arandjelovic et al. CVPR 2016)."""

_NUMBERS = 2**24  # that are read at a time, 128 MB


def learn_pca_from_gram(database: Database, rows: np.ndarray, dim: int = DIM) -> Projection:
    """PCA whitening as `fit_pca` learns it, cut to its first rows.

    In memory are n x n and dim x D numbers in float64, 0.5 and 1.1 GB at the most rows, the default dimensions and
    D = 32,768.

    Args:
        database: (N, D), or its shards in order, perhaps memory-mapped.
        rows: (n,) the numbers of those to learn from; of more than MOST as many, evenly.
        dim: the most dimensions to keep; directions that the rows do not show are left out.

    Returns:
        m, the mean, and P, (min(dim, shown), D).

    Raises:
        ValueError: fewer than 2 rows, or rows that are all the same.
    """
    if count_rows(database) < 2 or len(rows) < 2:
        raise ValueError(f"PCA whitening needs 2 rows or more, not {len(rows)}")
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST)).astype(np.int64)]
    size = max(1, _NUMBERS // gather(database, rows[:1]).shape[1])
    parts = [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    mean = np.sum([gather(database, rows[part], np.float64).sum(axis=0) for part in parts], axis=0) / len(rows)

    products = np.empty((len(rows), len(rows)))
    for number, part in enumerate(parts):
        piece = gather(database, rows[part], np.float64) - mean
        for other in parts[: number + 1]:
            block = piece @ (gather(database, rows[other], np.float64) - mean).T
            products[part, other], products[other, part] = block, block.T
    values, vectors = falling_eigenvectors(products / len(rows))
    if values[0] <= np.finfo(np.float64).tiny:
        raise ValueError(f"all {len(rows)} rows are the same: there is nothing to whiten")
    shown = min(dim, int(np.count_nonzero(values > UNSEEN * values[0])))
    # An eigenvector of the covariance is the rows' sum by those of the products; it has the length sqrt(n value).
    weights = vectors[:, :shown].T / (np.sqrt(len(rows)) * values[:shown, None])
    P = np.zeros((shown, len(mean)))
    for part in parts:
        P += weights[:, part] @ (gather(database, rows[part], np.float64) - mean)
    return Projection(mean, fixed_sign(P))
