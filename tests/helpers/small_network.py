"""A small network with which tests describe photos, and photos to describe."""

from pathlib import Path

import keras
import numpy as np
from PIL import Image

from keras_retrieval import layers


def save_network(path, *, channels=6, seed=0):
    """Saves images -> convolution -> GeM -> L2 as `keras_retrieval.build` names its layers."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 3), name="images")
    x = layers.PixelNormalization.of("torch", name="normalization")(images)
    x = keras.layers.Conv2D(channels, 5, 3, activation="relu", name="trunk")(x)
    x = layers.L2Normalization(name="l2", dtype="float32")(layers.GeM(name="pooling", dtype="float32")(x))
    keras.Model(images, x, name="small_gem").save(path)
    return path


def draw_photo(path, scene, view, height=40, width=56):
    """Saves a photo of a scene: photos of one scene have their colours in common, and noise of their own."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(scene).integers(0, 256, (5, 7, 3))
    noise = np.random.default_rng([scene, view]).integers(-50, 51, (height, width, 3))
    pixels = np.kron(blocks, np.ones((height // 5, width // 7, 1))) + noise
    Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(path)
    return path


def draw_scenes(folder):
    """Eight scenes with four photos each, and one photo of none; returns the folder."""
    for scene in range(8):
        for view in range(4):
            draw_photo(folder / f"scene{scene}" / f"{view}.png", scene, view)
    draw_photo(folder / "alone.png", 9, 9)
    return folder


def write_pairs(path, names, pairs, **changes):
    """Writes the fields of tuples.npz from which a whitening is learned; returns the path."""
    qidxs, pidxs = np.array(pairs).T
    fields = {"images": np.array(names), "cluster": np.zeros(len(names), "int64"), "qidxs": qidxs, "pidxs": pidxs}
    np.savez(path, **(fields | changes))
    return path
