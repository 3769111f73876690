"""Photos of patterns, weights of an extractor, and features that one photo has of another's object."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.local_features.features import LocalFeatures
from tests.helpers.small_xfeat import patterned_photo, random_tensors


def save_weights(path):
    """Saves random weights of XFeat as .npz."""
    np.savez(path, **random_tensors())
    return Path(path)


def draw_patterns(folder, count=5):
    """Saves photos that are parts of one pattern."""
    folder.mkdir(parents=True)
    whole = patterned_photo(120, 200)
    for number in range(count):
        Image.fromarray(whole[number : number + 96, 4 * number : 4 * number + 128]).save(folder / f"{number}.png")
    return folder


def scattered(count=60, seed=0, width=400, height=300):
    """Features at random places with random descriptors."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    places = rng.uniform((0, 0), (width, height), (count, 2)).astype(np.float32)
    return LocalFeatures(places, rows, width, height)


def moved(features, shared, seed=1, scale=0.8, shift=(30.0, 20.0)):
    """Features of another photo, the first `shared` of which are those of `features` seen from farther away."""
    other = scattered(len(features), seed, features.width, features.height)
    places, rows = other.keypoints.copy(), other.descriptors.copy()
    places[:shared] = features.keypoints[:shared] * scale + np.float32(shift)
    rows[:shared] = features.descriptors[:shared]
    return LocalFeatures(places, rows, features.width, features.height)
