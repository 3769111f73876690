"""Conversion of trunks for RGB photos, including their weights, to trunks for edge maps with one channel."""

from typing import Any

import keras
import numpy as np

from ..layers.pixel_normalization import PixelNormalization

DEVIATION = 57.0
"""Standard deviation of photos' pixels, in grey levels of 0..255, as measured on ImageNet."""

_PIXEL_SCALINGS = (keras.layers.Rescaling, keras.layers.Normalization)


def one_channel(trunk: keras.Model, normalization: str) -> keras.Model:
    """Converts a trunk (backbone) for RGB photos to a trunk for one-channel edge maps (Radenovic et al. ECCV 2018).

    The kernels of the first convolution are summed over the RGB channels, and all other weights are copied. No mean is
    subtracted from the input, so that 0 (no edge) stays 0. The kernels are scaled such that an input of 1 has the
    effect of 57 grey levels, the standard deviation of photos' pixels, whichever pixel normalisation the weights
    expect. This includes normalisation by the trunk's own first layers.

    Args:
        trunk: a model (B, H, W, 3) -> (B, h, w, C).
        normalization: the pixel normalisation that the weights of `trunk` expect, "torch", "caffe" or "none", see
            `layers.PixelNormalization.of`.

    Returns:
        A new model (B, H, W, 1) -> (B, h, w, C). The model and its layers have the names that they have in `trunk`.

    Raises:
        ArgumentError: `normalization` is unknown.
    """
    grey = keras.models.clone_model(trunk, keras.Input((None, None, 1)), clone_function=_copied)
    shares = DEVIATION * _grey_level(trunk, normalization)
    for old, new in zip(trunk.weights, grey.weights, strict=True):
        weight = keras.ops.convert_to_numpy(old)
        new.assign(weight if old.shape == new.shape else (weight * shares[:, None]).sum(axis=2, keepdims=True))
    return keras.Model(grey.input, grey.output, name=trunk.name)


def _copied(layer: Any) -> Any:
    """Returns a new layer with the configuration of `layer`, or the identity if `layer` scales RGB pixels."""
    if isinstance(layer, _PIXEL_SCALINGS):
        return keras.layers.Identity(name=layer.name)
    if isinstance(layer, keras.Sequential):  # its configuration contains the RGB input shape
        return keras.Sequential([_copied(inner) for inner in layer.layers], name=layer.name)
    return layer.__class__.from_config(layer.get_config())


def _grey_level(trunk: keras.Model, normalization: str) -> np.ndarray:
    """Returns the change of the first convolution's input per grey level of the photo, for each channel, (3,)."""
    first = next(layer for layer in trunk.layers if layer.weights)
    before = keras.Model(trunk.input, first.input)
    photos = np.stack([np.full((9, 9, 3), value) for value in (0, 255)])
    black, white = keras.ops.convert_to_numpy(before(PixelNormalization.of(normalization)(photos)))
    middle = len(black) // 2  # away from padding
    return (white - black)[middle, middle] / 255
