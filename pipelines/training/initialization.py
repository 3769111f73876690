"""Layers that begin from local descriptors of the training photos: the clusters of NetVLAD."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..files.progress import progress
from ..photos.cache import PhotoSource
from ..photos.reader import PhotoError

VERSIONS = ("v1", "v2")
IMAGES, CELLS = 500, 100  # 50,000 local descriptors, as published (Arandjelovic et al. CVPR 2016)


def layers_to_initialize(network: Any) -> list[Any]:
    """The network's layers that have a method `initialize(local_descriptors, version, seed)`."""
    return [layer for layer in network.layers if hasattr(layer, "initialize")]


def initialize(network: Any, photos: PhotoSource, names: Sequence[str], version: str, seed: int) -> None:
    """Gives each such layer what it begins from: CELLS cells of what comes into it, of each of IMAGES photos.

    Args:
        network: whose weights are changed.
        photos: to read.
        names: of the photos to draw from; those that cannot be read are passed over.
        version: "v1" or "v2" of `NetVLAD.initialize`.
        seed: of the draws.

    Raises:
        ValueError: the network has no such layer, or the photos have too few different cells.
    """
    layers = layers_to_initialize(network)
    if not layers:
        raise ValueError(f"--initialize {version}: {network.name} has no layer that begins from local descriptors")
    for layer in layers:
        layer.initialize(_cells(network, layer, photos, names, seed), version, seed)


def _cells(network: Any, layer: Any, photos: PhotoSource, names: Sequence[str], seed: int) -> np.ndarray:
    """(n, D) float32, CELLS or fewer of each photo."""
    import keras

    before = keras.Model(network.input, layer.input)
    draw = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    with progress("local descriptors", min(IMAGES, len(names))) as advance:
        for row in draw.permutation(len(names)).tolist():
            try:
                photo = photos.read(names[row])
            except PhotoError:
                continue
            cells = keras.ops.convert_to_numpy(before(photo[None].astype("float32"), training=False))
            cells = cells.reshape(-1, cells.shape[-1])
            found.append(draw.permutation(cells)[:CELLS].astype("float32"))
            advance(1)
            if len(found) == IMAGES:
                break
    if not found:
        raise ValueError(f"none of the {len(names)} photos can be read")
    return np.concatenate(found)
