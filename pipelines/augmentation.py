"""Photometric augmentation: what another camera or another hour would have made of a photo."""

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R BT.601


def jitter(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Changes brightness, contrast and saturation, in this order.

    Args:
        pixels: (H, W, 3) uint8.
        strength: each of the three is multiplied by its own factor from 1 - strength .. 1 + strength; 0.2 is usual.
        rng: draws the factors.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the strength does not lie in 0..1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength of augmentation lies in 0..1, not {strength}")
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    changed = pixels * brightness
    middle = (changed @ _LUMA).mean()
    changed = middle + contrast * (changed - middle)
    grey = (changed @ _LUMA)[..., None]
    changed = grey + saturation * (changed - grey)
    return np.rint(changed).clip(0, 255).astype(np.uint8)
