"""Shorter descriptors whose inner products stay as near as they can: projection on the strongest directions.

The directions are the eigenvectors of the rows' second moments with the largest eigenvalues. Nothing is centred or
divided, since that would change which rows are near; a network with a whitening has shorter descriptors of its own.
"""

from collections.abc import Iterable

import numpy as np


def learn_projection(blocks: Iterable[np.ndarray], dimensions: int) -> np.ndarray:
    """Learns from rows (N, D), which come in pieces, the projection (D, dimensions) float32.

    Raises:
        ValueError: dimensions below 1 or above D.
    """
    moments: np.ndarray | float = 0.0
    width = 0
    for block in blocks:
        width = block.shape[1]
        moments = moments + (block.T @ block).astype(np.float64)
    if not 1 <= dimensions <= width:
        raise ValueError(f"--dim is 1..{width}, as the descriptors have {width} dimensions, not {dimensions}")
    _, directions = np.linalg.eigh(moments)
    return np.ascontiguousarray(directions[:, ::-1][:, :dimensions], np.float32)
