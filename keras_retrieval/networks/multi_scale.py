"""Multi-scale descriptors: one model that describes a photo at several scales and averages the descriptors."""

from collections.abc import Sequence

import keras

from .. import layers
from ..errors import ArgumentError

SCALES = (1.0, 2**-0.5, 0.5)  # the scales of the published evaluations


def multi_scale(
    model: keras.Model,
    scales: Sequence[float] = SCALES,
    power: float | None = None,
    antialias: bool = True,
    mirror: bool = False,
) -> keras.Model:
    """Makes a model that describes photos at several scales (Radenovic et al. TPAMI 2018).

    The new model resizes each photo to every scale, applies the network to each of the resized photos, combines the
    descriptors by a power mean, and L2-normalises the result.

    Args:
        model: a network from `build`. If it has a layer named "whitening", this layer and those after it are applied
            once, after the scales are combined.
        scales: factors by which photos are resized inside the new model, each above 0. For (1.0,) without `mirror`,
            `model` itself is returned.
        power: the exponent of the power mean. None uses the exponent p of a GeM pooling if p is the same for all
            channels and the pooling is followed by L2 normalisation only (apart from the whitening); infinity, the
            maximum, for SuperGlobal; otherwise 1.
        antialias: whether photos are antialiased when they are shrunk, see `layers.Rescaling`.
        mirror: whether the horizontally mirrored photo is described, too, at every scale.

    Returns:
        A keras.Model from photos (B, H, W, 3) to descriptors (B, D), as `model` is. Both models share their weights.

    Raises:
        ArgumentError: `scales` is empty, or a scale is not above 0.
    """
    if not scales or min(scales) <= 0:
        raise ArgumentError(f"scales must be one or more factors above 0, got {list(scales)}")
    if tuple(scales) == (1.0,) and not mirror:
        return model
    names = [layer.name for layer in model.layers]
    has_whitening = "whitening" in names
    embed = keras.Model(model.input, model.get_layer("whitening").input) if has_whitening else model
    images = keras.Input((None, None, 3), name="images")
    pooling = model.get_layer("pooling") if "pooling" in names else None
    by_size = isinstance(pooling, layers.SuperGlobal)
    resized = [
        images if scale == 1 else layers.Rescaling(scale, antialias, by_size, dtype="float32")(images)
        for scale in scales
    ]
    mirrored = [keras.ops.flip(photos, axis=2) for photos in resized] if mirror else []
    descriptors = [embed(photos) for photos in (*resized, *mirrored)]
    power = _power(model) if power is None else power
    x = layers.PowerMean(power, dtype="float32")(descriptors) if len(descriptors) > 1 else descriptors[0]
    x = layers.L2Normalization(dtype="float32")(x)
    for layer in model.layers[names.index("whitening") :] if has_whitening else ():
        x = layer(x)
    return keras.Model(images, x, name=f"{model.name}_multiscale")


def _power(model: keras.Model) -> float:
    """Returns the pooling's own power; GeM's p if only L2 normalisation follows before the whitening; otherwise 1."""
    names = [layer.name for layer in model.layers]
    pooling = model.get_layer("pooling") if "pooling" in names else None
    if isinstance(pooling, layers.SuperGlobal):
        return pooling.scales_power
    if not isinstance(pooling, layers.GeM) or pooling.per_channel:
        return 1.0
    between = names[names.index("pooling") + 1 : names.index("whitening") if "whitening" in names else None]
    return float(keras.ops.convert_to_numpy(pooling.p)[0]) if between == ["l2"] else 1.0
