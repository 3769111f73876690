"""Descriptors over several scales of a photo, as one model."""

from collections.abc import Sequence

import keras

from .. import layers

SCALES = (1.0, 2**-0.5, 0.5)  # those of the published evaluations


def multi_scale(
    model: keras.Model,
    scales: Sequence[float] = SCALES,
    power: float | None = None,
    antialias: bool = True,
    mirror: bool = False,
) -> keras.Model:
    """Joins a network over scales (Radenovic et al. TPAMI 2018): all scales, power mean, L2, whitening, in one graph.

    Args:
        model: from `build`. A layer "whitening" in it comes after the scales are joined, with what follows it.
        scales: factors by which photos are resized inside the model. (1.0,) gives `model` itself.
        power: of the mean over the scales; None takes GeM's p where descriptors are a plain, single GeM, else 1.
        antialias: how the smaller scales are made, see `layers.Rescaling`.
        mirror: join mirrored photos, too, at every scale.

    Returns:
        A keras.Model with the inputs and outputs of `model` that shares its weights.

    Raises:
        ValueError: no scale, or one that is not above 0.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales are one or more factors above 0, not {list(scales)}")
    if tuple(scales) == (1.0,) and not mirror:
        return model
    names = [layer.name for layer in model.layers]
    whitened = "whitening" in names
    embed = keras.Model(model.input, model.get_layer("whitening").input) if whitened else model
    images = keras.Input((None, None, 3), name="images")
    resized = [
        images if scale == 1 else layers.Rescaling(scale, antialias, dtype="float32")(images) for scale in scales
    ]
    mirrored = [keras.ops.flip(photos, axis=2) for photos in resized] if mirror else []
    descriptors = [embed(photos) for photos in (*resized, *mirrored)]
    power = _power(model) if power is None else power
    x = layers.PowerMean(power, dtype="float32")(descriptors) if len(descriptors) > 1 else descriptors[0]
    x = layers.L2Normalization(dtype="float32")(x)
    for layer in model.layers[names.index("whitening") :] if whitened else ():
        x = layer(x)
    return keras.Model(images, x, name=f"{model.name}_multiscale")


def _power(model: keras.Model) -> float:
    """GeM's p if nothing but L2 stands between it and the descriptor before whitening, else 1."""
    names = [layer.name for layer in model.layers]
    pooling = model.get_layer("pooling") if "pooling" in names else None
    if not isinstance(pooling, layers.GeM) or pooling.per_channel:
        return 1.0
    between = names[names.index("pooling") + 1 : names.index("whitening") if "whitening" in names else None]
    return float(keras.ops.convert_to_numpy(pooling.p)[0]) if between == ["l2"] else 1.0
