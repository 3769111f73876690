"""Trunks of one channel, from trunks of RGB photos and their weights."""

from typing import Any

import keras
import numpy as np

from ..layers.pixel_normalization import PixelNormalization

DEVIATION = 57.0
"""Grey levels: how far pixels of photos lie from their mean, by ImageNet's numbers."""

_SCALES_OF_PIXELS = (keras.layers.Rescaling, keras.layers.Normalization)


def one_channel(trunk: keras.Model, normalization: str) -> keras.Model:
    """Makes a trunk take one channel instead of RGB (Radenovic et al. ECCV 2018).

    The kernels of the first convolution are summed over RGB, and no mean is taken off: 0 stays 0. The unit of the
    channel is the deviation of photos' pixels, whatever pixel normalisation the weights expect, also where the trunk
    has it inside. The other weights are copied.

    Args:
        trunk: (B, H, W, 3) to a feature map.
        normalization: of the pixels that its weights expect, see `PixelNormalization.of`.

    Returns:
        A trunk (B, H, W, 1) whose name and layers' names are the same.
    """
    grey = keras.models.clone_model(trunk, keras.Input((None, None, 1)), clone_function=_copied)
    shares = DEVIATION * _grey_level(trunk, normalization)
    for old, new in zip(trunk.weights, grey.weights, strict=True):
        weight = keras.ops.convert_to_numpy(old)
        new.assign(weight if old.shape == new.shape else (weight * shares[:, None]).sum(axis=2, keepdims=True))
    return keras.Model(grey.input, grey.output, name=trunk.name)


def _copied(layer: Any) -> Any:
    """A layer of the same configuration; one that scales RGB pixels does nothing."""
    if isinstance(layer, _SCALES_OF_PIXELS):
        return keras.layers.Identity(name=layer.name)
    if isinstance(layer, keras.Sequential):  # its configuration would hold RGB's shape
        return keras.Sequential([_copied(inner) for inner in layer.layers], name=layer.name)
    return layer.__class__.from_config(layer.get_config())


def _grey_level(trunk: keras.Model, normalization: str) -> np.ndarray:
    """What one grey level of a photo is where the first convolution sees it, (3,), a number for each channel."""
    first = next(layer for layer in trunk.layers if layer.weights)
    before = keras.Model(trunk.input, first.input)
    photos = np.stack([np.full((9, 9, 3), value) for value in (0, 255)])
    black, white = keras.ops.convert_to_numpy(before(PixelNormalization.of(normalization)(photos)))
    middle = len(black) // 2  # away from what a layer may pad
    return (white - black)[middle, middle] / 255
