"""Multi-scale descriptors: one model that describes a photo at several scales and averages the descriptors."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from .. import layers
from ..errors import ArgumentError
from .padded import PaddedNetwork
from .padded_layers import inside

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
    _check_scales(scales)
    if tuple(scales) == (1.0,) and not mirror:
        return model
    embed, head = _parts(model)
    images = keras.Input((None, None, 3), name="images")
    resized = [images if scale == 1 else _rescaling(model, scale, antialias)(images) for scale in scales]
    mirrored = [ops.flip(photos, axis=2) for photos in resized] if mirror else []
    x = _combination(model, power)([embed(photos) for photos in (*resized, *mirrored)])
    for layer in head:
        x = layer(x)
    return keras.Model(images, x, name=f"{model.name}_multiscale")


class PaddedScales(keras.Model):
    """Describes padded photos at several scales: `multi_scale` of photos of different sizes in one batch.

    The descriptors are those of the photos without padding, to 1e-5. This model shares the weights of `network`.

    Args:
        network: a network from `build`.
        scales: as for `multi_scale`.
        power: as for `multi_scale`.
        antialias: as for `multi_scale`.
        mirror: as for `multi_scale`.

    Input shape:
        A dict. "photos" (B, H, W, 3) are RGB in 0..255, each photo in the upper left corner. "sizes" (B, 2) are
        integers, the height and width of each photo in pixels.

    Output shape:
        (B, D).

    Raises:
        ArgumentError: `scales` is empty, or a scale is not above 0; or the network's descriptors depend on the padding,
            see `padded.misfit`.

    Example:
        >>> model = PaddedScales(keras_retrieval.build("vgg16_gem"))
        >>> model({"photos": np.zeros((2, 96, 96, 3)), "sizes": np.array([[96, 72], [80, 96]])}).shape
        (2, 512)
    """

    def __init__(
        self,
        network: keras.Model,
        scales: Sequence[float] = SCALES,
        power: float | None = None,
        antialias: bool = True,
        mirror: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_scales(scales)
        single = tuple(scales) == (1.0,) and not mirror
        embed, self.head = (network, []) if single else _parts(network)
        self.network = PaddedNetwork(embed, exact=True)
        self.rescalings = [None if scale == 1 else _rescaling(network, scale, antialias) for scale in scales]
        self.mirror = mirror
        self.combination = None if single else _combination(network, power)
        self.built = True  # all weights belong to the network

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        photos, sizes = inputs["photos"], ops.cast(inputs["sizes"], "int32")
        mask = inside(sizes, *ops.shape(photos)[1:3])
        found = []
        for rescaling in self.rescalings:
            if rescaling is None:
                found.append((photos, sizes))
            else:
                found.append((rescaling(photos, mask=mask), rescaling.resized(sizes)))
        if self.mirror:
            found += [(_mirrored(*one), one[1]) for one in found]
        descriptors = [self.network({"photos": one, "sizes": sides}, training=False) for one, sides in found]
        if self.combination is None:
            return descriptors[0]
        x = self.combination(descriptors)
        for layer in self.head:
            x = layer(x)
        return x


def _mirrored(photos: Any, sizes: Any) -> Any:
    """Mirrors the valid part of each photo left to right; what is beyond it is undefined."""
    columns, width = ops.arange(ops.shape(photos)[2]), sizes[:, 1:]
    place = ops.where(columns < width, width - 1 - columns, columns)
    shape = (*ops.shape(photos)[:3], 1)
    return ops.take_along_axis(photos, ops.broadcast_to(place[:, None, :, None], shape), axis=2)


def _check_scales(scales: Sequence[float]) -> None:
    if not scales or min(scales) <= 0:
        raise ArgumentError(f"scales must be one or more factors above 0, got {list(scales)}")


def _parts(model: keras.Model) -> tuple[keras.Model, list[Any]]:
    """Returns the network that describes each scale, and the layers that are applied after the combination."""
    names = [layer.name for layer in model.layers]
    if "whitening" not in names:
        return model, []
    embed = keras.Model(model.input, model.get_layer("whitening").input, name=model.name)
    return embed, model.layers[names.index("whitening") :]


def _rescaling(model: keras.Model, scale: float, antialias: bool) -> layers.Rescaling:
    by_size = isinstance(_pooling(model), layers.SuperGlobal)
    return layers.Rescaling(scale, antialias, by_size, dtype="float32")


def _combination(model: keras.Model, power: float | None) -> Any:
    """Returns the function that combines the descriptors of all scales, a list, into one."""
    mean = layers.PowerMean(_power(model) if power is None else power, dtype="float32")
    normalize = layers.L2Normalization(dtype="float32")
    return lambda found: normalize(mean(found) if len(found) > 1 else found[0])


def _pooling(model: keras.Model) -> Any:
    return next((layer for layer in model.layers if layer.name == "pooling"), None)


def _power(model: keras.Model) -> float:
    """Returns the pooling's own power; GeM's p if only L2 normalisation follows before the whitening; otherwise 1."""
    names = [layer.name for layer in model.layers]
    pooling = _pooling(model)
    if isinstance(pooling, layers.SuperGlobal):
        return pooling.scales_power
    if not isinstance(pooling, layers.GeM) or pooling.per_channel:
        return 1.0
    between = names[names.index("pooling") + 1 : names.index("whitening") if "whitening" in names else None]
    return float(keras.ops.convert_to_numpy(pooling.p)[0]) if between == ["l2"] else 1.0
