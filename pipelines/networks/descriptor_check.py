"""Checks that a network of a user's own computes descriptors: one output (B, D) of rows of unit length."""

from pathlib import Path
from typing import Any

import numpy as np

from .errors import NetworkError

TOLERANCE = 1e-2
"""How far a row's length may be from 1: networks in float16 reach 1e-3."""

_SIDE = 224


def check_descriptors(network: Any, path: str | Path, *, unit: bool = True) -> None:
    """Checks a network that was loaded from a file; one that ends in a normalisation is not run.

    Args:
        network: a keras.Model.
        path: its file, for messages.
        unit: whether its rows must have unit length.

    Raises:
        NetworkError: the network has several inputs or outputs, takes no RGB photos, its output is not (B, D), or,
            if `unit`, its rows do not have unit length; the message says what to do.
    """
    if not getattr(network, "outputs", None):
        raise NetworkError(
            f"{path} is a subclassed model, whose layers cannot be listed: save keras.Model(x, network(x)) with "
            "x = keras.Input((None, None, 3)) in its place"
        )
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise NetworkError(
            f"{path} has {len(network.inputs)} inputs and {len(network.outputs)} outputs, not photos as the only input "
            f"and descriptors as the only output: save the part that gives them, such as "
            "keras.Model(network.inputs[0], network.outputs[0])"
        )
    shape = tuple(network.outputs[0].shape)
    if len(shape) != 2 or shape[-1] is None:
        kind = "feature maps: append a pooling, such as keras_retrieval.layers.GeM()" if len(shape) == 4 else "no rows"
        raise NetworkError(f"{path} has an output of shape {shape}, not descriptors (None, D); these are {kind}")
    taken = tuple(network.inputs[0].shape)
    if len(taken) != 4 or taken[-1] != 3:
        raise NetworkError(f"{path} takes an input of shape {taken}, not photos (None, H, W, 3) in RGB of 0..255")
    if unit and not _normalised(network):
        _check_rows(network, path, taken)


def with_unit_rows(network: Any) -> Any:
    """Appends L2 normalisation to a network, so that its rows have unit length.

    Args:
        network: a keras.Model with one output (B, D).

    Returns:
        A keras.Model with the same layers and "l2_unit".
    """
    import keras

    from keras_retrieval import layers

    rows = layers.L2Normalization(name="l2_unit", dtype="float32")(network.output)
    return keras.Model(network.input, rows, name=network.name)


def _normalised(network: Any) -> bool:
    """Whether the last layer normalises rows."""
    import keras

    from keras_retrieval import layers

    history = getattr(network.outputs[0], "_keras_history", None)
    last = getattr(history, "operation", None)
    if isinstance(last, keras.Model) and getattr(last, "outputs", None):
        return _normalised(last)
    return isinstance(last, layers.L2Normalization) or (
        isinstance(last, keras.layers.UnitNormalization) and last.axis in (-1, 1, [-1], [1])
    )


def _check_rows(network: Any, path: str | Path, shape: tuple[int | None, ...]) -> None:
    """Describes two random photos, the second nearly black: a classifier's softmax may saturate at the other."""
    sides = [side or _SIDE for side in shape[1:3]]
    photos = np.random.default_rng(0).integers(0, 256, (2, *sides, 3)).astype("float32")
    photos[1] /= 64
    try:
        rows = np.asarray(network(photos, training=False), "float32")
    except Exception as error:  # the layers may raise anything
        reason = " ".join(str(error).split())[:200]
        raise NetworkError(f"{path} cannot describe a photo of {sides[1]} x {sides[0]} pixels: {reason}") from error
    lengths = np.linalg.norm(rows, axis=-1)
    lengths = lengths[np.isfinite(lengths) & (lengths > 0)]  # others are reported with the photos that have them
    if (np.abs(lengths - 1) > TOLERANCE).any():
        raise NetworkError(
            f"{path} gives descriptors of length {lengths.min():.3g} to {lengths.max():.3g}, not 1, and search by "
            f"inner product would rank by length: `keras-retrieval convert {path} unit.keras --normalise` appends a "
            "normalisation to it"
        )
