"""Dimension reduction that preserves inner products as well as possible: projection onto the strongest directions.

The directions are the eigenvectors of the rows' second-moment matrix with the largest eigenvalues (PCA without
centring). Nothing is centred or scaled, since that would change the nearest neighbours. Networks with a
whitening reduce their descriptors themselves.
"""

from collections.abc import Iterable

import numpy as np

from keras_retrieval.errors import ArgumentError


def learn_projection(blocks: Iterable[np.ndarray], dimensions: int) -> np.ndarray:
    """Learns the projection onto the strongest directions of rows.

    Args:
        blocks: the rows (N, D), in blocks.
        dimensions: number of dimensions of the projected rows.

    Returns:
        The projection matrix, (D, dimensions) float32; rows are projected as `rows @ projection`.

    Raises:
        ArgumentError: `dimensions` is below 1 or above D.
    """
    moments: np.ndarray | float = 0.0
    width = 0
    for block in blocks:
        width = block.shape[1]
        moments = moments + (block.T @ block).astype(np.float64)
    if not 1 <= dimensions <= width:
        raise ArgumentError(f"--dim must be in 1..{width}, the descriptors' dimensions, got {dimensions}")
    _, directions = np.linalg.eigh(moments)
    return np.ascontiguousarray(directions[:, ::-1][:, :dimensions], np.float32)
