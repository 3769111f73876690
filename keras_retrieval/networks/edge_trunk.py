"""Converts trunks for RGB photos, with their weights, to trunks for one channel of edge strength."""

from typing import Any

import keras
import numpy as np

from ..layers.pixel_normalization import PixelNormalization

DEVIATION = 57.0
"""Standard deviation of the pixels of photos in grey levels, from the statistics of ImageNet."""

_PIXEL_SCALINGS = (keras.layers.Rescaling, keras.layers.Normalization)


def one_channel(trunk: keras.Model, normalization: str) -> keras.Model:
    """Converts a trunk to take one channel instead of RGB (Radenovic et al. ECCV 2018).

    The kernels of the first convolution are summed over RGB. No mean is subtracted, so that 0 stays 0. One unit of the
    channel corresponds to the standard deviation of photos' pixels, for every pixel normalisation of the weights, also
    if the trunk contains it. All other weights are copied.

    Args:
        trunk: a model (B, H, W, 3) -> (B, h, w, C).
        normalization: the pixel normalisation that its weights expect, see `PixelNormalization.of`.

    Returns:
        A trunk (B, H, W, 1) -> (B, h, w, C) with the same name and the same names of layers.
    """
    grey = keras.models.clone_model(trunk, keras.Input((None, None, 1)), clone_function=_copied)
    shares = DEVIATION * _grey_level(trunk, normalization)
    for old, new in zip(trunk.weights, grey.weights, strict=True):
        weight = keras.ops.convert_to_numpy(old)
        new.assign(weight if old.shape == new.shape else (weight * shares[:, None]).sum(axis=2, keepdims=True))
    return keras.Model(grey.input, grey.output, name=trunk.name)


def _copied(layer: Any) -> Any:
    """A layer of the same configuration; the identity for a layer that scales RGB pixels."""
    if isinstance(layer, _PIXEL_SCALINGS):
        return keras.layers.Identity(name=layer.name)
    if isinstance(layer, keras.Sequential):  # its configuration contains the RGB input shape
        return keras.Sequential([_copied(inner) for inner in layer.layers], name=layer.name)
    return layer.__class__.from_config(layer.get_config())


def _grey_level(trunk: keras.Model, normalization: str) -> np.ndarray:
    """The change at the input of the first convolution per grey level of a photo, (3,), one number per channel."""
    first = next(layer for layer in trunk.layers if layer.weights)
    before = keras.Model(trunk.input, first.input)
    photos = np.stack([np.full((9, 9, 3), value) for value in (0, 255)])
    black, white = keras.ops.convert_to_numpy(before(PixelNormalization.of(normalization)(photos)))
    middle = len(black) // 2  # away from padding
    return (white - black)[middle, middle] / 255
