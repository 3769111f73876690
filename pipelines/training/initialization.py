"""Initializes layers, such as the clusters of NetVLAD, from local descriptors of the training photos."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..files.progress import progress
from ..photos.cache import PhotoSource
from ..photos.reader import PhotoError

VERSIONS = ("v1", "v2")
PHOTOS, CELLS = 500, 100  # together 50,000 local descriptors, as published (Arandjelovic et al. CVPR 2016)


def layers_to_initialize(network: Any) -> list[Any]:
    """Returns the layers, such as NetVLAD, that have a method `initialize(local_descriptors, version, seed)`."""
    return [layer for layer in network.layers if hasattr(layer, "initialize")]


def initialize(network: Any, photos: PhotoSource, names: Sequence[str], version: str, seed: int) -> None:
    """Initializes layers of a network, such as NetVLAD, from a random sample of the local descriptors that they pool.

    The layers are those that `layers_to_initialize` returns. The sample has at most 100 cells of the feature map of
    each of at most 500 photos.

    Args:
        network: the network, whose weights are changed in place.
        photos: reader of the photos' pixels.
        names: names of the photos to sample; unreadable photos are skipped.
        version: which of the two published initializations to use, "v1" or "v2", see `NetVLAD.initialize`.
        seed: random seed.

    Raises:
        ArgumentError: the network has no layer to initialize, no photo can be read, or there are fewer distinct local
            descriptors than clusters.
    """
    layers = layers_to_initialize(network)
    if not layers:
        raise ArgumentError(
            f"--initialize {version} needs a layer initialized from local descriptors, and {network.name} has none"
        )
    for layer in layers:
        layer.initialize(_cells(network, layer, photos, names, seed), version, seed)


def _cells(network: Any, layer: Any, photos: PhotoSource, names: Sequence[str], seed: int) -> np.ndarray:
    """Computes a random sample of the layer's inputs, (n, D) float32, at most CELLS of each photo."""
    import keras

    inputs = keras.Model(network.input, layer.input)
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    with progress("local descriptors", min(PHOTOS, len(names))) as advance:
        for row in rng.permutation(len(names)).tolist():
            try:
                photo = photos.read(names[row])
            except PhotoError:
                continue
            cells = keras.ops.convert_to_numpy(inputs(photo[None].astype("float32"), training=False))
            cells = cells.reshape(-1, cells.shape[-1])
            found.append(rng.permutation(cells)[:CELLS].astype("float32"))
            advance(1)
            if len(found) == PHOTOS:
                break
    if not found:
        raise ArgumentError(f"none of the {len(names)} photos can be read")
    return np.concatenate(found)
