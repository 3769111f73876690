"""Dimension reduction that preserves inner products as well as possible: projection on the strongest directions.

The directions are the eigenvectors of the rows' second-moment matrix with the largest eigenvalues (PCA without
centring). Nothing is centred or scaled, since that would change which rows are near; a network with a whitening has
its own, shorter descriptors.
"""

from collections.abc import Iterable

import numpy as np

from keras_retrieval.errors import ArgumentError


def learn_projection(blocks: Iterable[np.ndarray], dimensions: int) -> np.ndarray:
    """Learns the projection to the strongest directions of rows.

    Args:
        blocks: rows (N, D) in blocks.
        dimensions: the number of dimensions of the projected rows.

    Returns:
        (D, dimensions) float32, by which rows are multiplied from the right.

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
