"""Dimension reduction that preserves inner products as well as possible: projection onto the principal directions.

The principal directions are the eigenvectors of the second-moment matrix of the descriptors with the largest
eigenvalues (PCA without centring). Descriptors are neither centred nor scaled, because either would change the nearest
neighbours. A network that ends in a whitening layer needs no such projection, because the whitening can reduce the
dimensions.
"""

from collections.abc import Iterable

import numpy as np

from keras_retrieval.errors import ArgumentError

AXES_STEP = 16  # `leading_axes` returns a multiple of this number
MOST_AXES = 0.75  # of the dimensions; with more axes, hashes would hardly become shorter


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
    return np.ascontiguousarray(_principal(moments)[1][:, :dimensions], np.float32)


def leading_axes(rows: np.ndarray, share: float, least: int = 1) -> np.ndarray | None:
    """Learns the fewest principal directions that contain a share of the squared length of descriptors.

    Args:
        rows: a sample of the descriptors, (n, S) float32.
        share: share of the sum of the squared lengths of the rows that their projections keep, 0 to 1.
        least: minimum number of directions.

    Returns:
        The directions, (S, A) float32, where A is a multiple of `AXES_STEP` or `least`; None if A would exceed
        `MOST_AXES` of the dimensions.
    """
    values, directions = _principal((rows.T @ rows).astype(np.float64))
    kept = np.cumsum(values)
    enough = 1 + int(np.searchsorted(kept, share * kept[-1]))
    count = max(-(-enough // AXES_STEP) * AXES_STEP, least)
    return None if count > MOST_AXES * len(values) else np.ascontiguousarray(directions[:, :count], np.float32)


def _principal(moments: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, (S,) descending, and eigenvectors, (S, S) in columns, of a matrix of second moments."""
    values, directions = np.linalg.eigh(moments)
    return values[::-1], directions[:, ::-1]
