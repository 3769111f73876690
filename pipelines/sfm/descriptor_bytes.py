"""Descriptors in COLMAP's database, which has 8 bits for a number, and whose visual words need 128 numbers."""

import numpy as np

MOST_DIMENSIONS = 128
_ZERO, _ONE = 128, 127


def to_bytes(descriptors: np.ndarray) -> np.ndarray:
    """Quantises L2-normalised descriptors to 8 bits.

    Args:
        descriptors: (n, D), with D of at most 128.

    Returns:
        (n, 128) uint8: a number from -1 to 1 becomes one from 1 to 255, and zeros follow.
    """
    rows = np.full((len(descriptors), MOST_DIMENSIONS), _ZERO, np.uint8)
    rows[:, : descriptors.shape[1]] = np.clip(np.rint(descriptors * _ONE), -_ONE, _ONE) + _ZERO
    return rows


def from_bytes(stored: np.ndarray) -> np.ndarray:
    """Returns the descriptors, (n, 128) float32, of which `to_bytes` made 8 bits."""
    return (stored.astype(np.float32) - _ZERO) / _ONE
