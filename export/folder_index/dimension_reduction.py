"""Dimension reduction that preserves inner products as well as possible: projection onto the principal directions.

The principal directions are the eigenvectors of the second-moment matrix of the descriptors with the largest
eigenvalues (PCA without centring). Descriptors are neither centred nor scaled, because either would change the nearest
neighbours. A network that ends in a whitening layer needs no such projection, because the whitening can reduce the
dimensions.
"""

from collections.abc import Iterable

import numpy as np

from keras_retrieval.errors import ArgumentError


def learn_projection(blocks: Iterable[np.ndarray], dimensions: int) -> np.ndarray:
    """Learns the projection of descriptors onto their principal directions.

    Args:
        blocks: the descriptors (N, D), in blocks.
        dimensions: number of dimensions S after the projection.

    Returns:
        The projection matrix, (D, S) float32; descriptors are projected as `rows @ projection`.

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
