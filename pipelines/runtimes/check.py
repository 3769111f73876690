"""Compares a converted network with Keras, on drawn photos of several sizes."""

from collections.abc import Sequence

import numpy as np

from ..networks.errors import NetworkError
from .sessions import Describe

TOLERANCE = 1e-5
"""The largest difference of a component of a float32 descriptor from Keras'."""
COSINE = 0.99
"""The smallest cosine of a bfloat16 descriptor to the float32 one, below which activations have overflowed."""

_SIDE = 96  # pixels; small photos show errors of shapes as well as large ones


def drawn(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draws photos of coloured blocks with noise.

    Returns:
        (count, height, width, 3) uint8.
    """
    generator = np.random.default_rng([seed, height, width])
    blocks = generator.integers(0, 256, (count, 6, 8, 3))
    rows, columns = np.arange(height) * 6 // height, np.arange(width) * 8 // width
    noise = generator.integers(-40, 41, (count, height, width, 3))
    return (blocks[:, rows][:, :, columns] + noise).clip(0, 255).astype(np.uint8)


def check_batches(smallest: int) -> list[np.ndarray]:
    """Draws the batches on which networks are compared: one and two photos; square, tall and wide; odd sizes.

    Args:
        smallest: shortest side in pixels that the network can describe.
    """
    side = max(_SIDE, smallest)
    sizes = [(1, smallest, smallest), (2, side, side + 37), (1, side + 61, side), (2, side + 3, side + 14)]
    return [drawn(*size) for size in sizes]


def check_equal(found: Describe, exact: Describe, batches: Sequence[np.ndarray], bfloat16: bool = False) -> float:
    """Checks that two networks describe photos alike.

    Args:
        found: function of the converted network.
        exact: function of the Keras network in float32.
        batches: batches of photos.
        bfloat16: whether `found` computes in bfloat16.

    Returns:
        The largest difference of a component.

    Raises:
        NetworkError: they differ, by more than 1e-5 in float32.
    """
    most = 0.0
    for images in batches:
        rows, expected = found(images), exact(images)
        height, width = images.shape[1:3]
        where = f"on photos of {width} x {height} px"
        if rows.shape != expected.shape:
            raise NetworkError(f"descriptors of the shape {rows.shape} instead of {expected.shape} {where}")
        if not (np.isfinite(rows) == np.isfinite(expected)).all():
            raise NetworkError(f"descriptors with other places of numbers that are not finite {where}")
        difference = float(np.abs(np.nan_to_num(rows) - np.nan_to_num(expected)).max())
        if bfloat16:
            norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(expected, axis=1)
            cosine = float(np.where(norms > 0, (rows * expected).sum(axis=1) / np.maximum(norms, 1e-12), 1).min())
            if not cosine >= COSINE:
                raise NetworkError(f"descriptors with a cosine of {cosine:.4f} to Keras' {where}")
        elif not difference <= TOLERANCE:
            raise NetworkError(f"descriptors that differ from Keras' by {difference:.1e} {where}")
        most = max(most, difference)
    return most
