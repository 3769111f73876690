"""A network of two convolutions and folders of small photos, for the tests of the steps."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES = ((40, 56), (56, 40), (48, 48), (33, 64))  # height, width


def network(dimensions: int = 16, seed: int = 0) -> Any:
    """A network built as `keras_retrieval.build` builds them, of random weights."""
    import keras

    from keras_retrieval import layers

    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 3), name="images")
    pixels = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(pixels)
    x = keras.layers.Conv2D(dimensions, 3, strides=2, activation="relu", bias_initializer="ones")(x)
    trunk = keras.Model(pixels, x, name="trunk")
    x = trunk(layers.PixelNormalization.of("torch", name="normalization")(images))
    x = layers.L2Normalization(name="l2", dtype="float32")(layers.GeM(name="pooling", dtype="float32")(x))
    return keras.Model(images, x, name="small")


def saved_network(folder: Path, **options: Any) -> Path:
    path = folder / "small.keras"
    network(**options).save(path)
    return path


def draw(path: Path, height: int, width: int, seed: int = 0) -> None:
    """A photo of coloured blobs, without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, "PNG")


def draw_folder(folder: Path, count: int) -> list[str]:
    """Photos of several sizes, named 000.png and so on."""
    names = [f"{number:03}.png" for number in range(count)]
    for number, name in enumerate(names):
        draw(folder / name, *SIZES[number % len(SIZES)], seed=number)
    return names


def shards(folder: Path) -> np.ndarray:
    """All rows of a folder of descriptors."""
    return np.concatenate([np.load(path) for path in sorted(folder.glob("descriptors-*.npy"))])
