"""Photos of invented patterns, and copies of them."""

import numpy as np
from PIL import Image
from PIL.Image import Resampling, Transpose

CHANGES = {
    "recompressed": lambda image: image,
    "resized": lambda image: image.resize((round(image.width * 0.7), round(image.height * 0.7)), Resampling.LANCZOS),
    "cropped": lambda image: image.crop((round(image.width * 0.03), 0, round(image.width * 0.98), image.height - 12)),
    "turned": lambda image: image.transpose(Transpose.ROTATE_90),
    "mirrored": lambda image: image.transpose(Transpose.FLIP_LEFT_RIGHT),
    "grey": lambda image: image.convert("L"),
    "darker": lambda image: Image.eval(image, lambda value: round(0.8 * value)),
}


def scene(seed, width=320, height=240):
    """A photo with details of all sizes: textures of coarse and fine cells added up."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells, weight in ((4, 60), (9, 45), (20, 35), (45, 25), (90, 15)):
        texture = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        total += weight * (np.asarray(texture.resize((width, height), Resampling.BICUBIC), float) / 255 - 0.5)
    return Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))


def save(folder, name, image, **options):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(folder / name, **options)
