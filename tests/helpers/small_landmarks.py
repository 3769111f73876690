"""Pictures with SIFT features, pasted into photos at known positions, as landmarks."""

import numpy as np
from PIL import Image, ImageFilter


def texture(seed, height, width):
    """Blots that SIFT finds, the same for a seed."""
    rng = np.random.default_rng(seed)
    blots = Image.fromarray(rng.integers(0, 256, (height // 4, width // 4, 3), np.uint8))
    return blots.resize((width, height)).filter(ImageFilter.GaussianBlur(0.6))


def paste(path, landmark, view):
    """A photo 240 x 180 in which the picture of a landmark stands somewhere, and where it does."""
    rng = np.random.default_rng([landmark, view])
    photo = texture(1000 + 100 * landmark + view, 180, 240).filter(ImageFilter.GaussianBlur(2))
    side = int(rng.integers(90, 130))
    left, top = int(rng.integers(5, 235 - side)), int(rng.integers(5, 175 - side))
    photo.paste(texture(landmark, 120, 120).resize((side, side), Image.Resampling.LANCZOS), (left, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    photo.save(path, quality=95)
    return left, top, left + side, top + side
