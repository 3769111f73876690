"""Changes to built networks: a learned whitening at the end, and whitening or proposals of R-MAC's regions.

Whitened regions and region proposals are those of Deep Image Retrieval (Gordo et al. ECCV 2016).
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from .. import layers
from ..errors import ArgumentError
from ..layers.region_proposals import SCALES
from ..layers.regional_pooling import Regions


def with_whitening(model: keras.Model, mean: np.ndarray, projection: np.ndarray, dim: int | None = None) -> keras.Model:
    """Appends a learned whitening to a network. `multi_scale` applies it after the scales are combined.

    Args:
        model: a network without a layer named "whitening".
        mean: the shift m, (D,).
        projection: the matrix P, (d, D).
        dim: the number of rows of P to keep; None keeps all.

    Returns:
        A network that shares the weights and ends with the layers "whitening" and "l2_whitened".

    Raises:
        ArgumentError: the network has a whitening already, or the shapes do not match.
    """
    if any(layer.name == "whitening" for layer in model.layers):
        raise ArgumentError("the network already ends with a whitening")
    size, rows = model.output_shape[-1], len(projection) if dim is None else dim
    if projection.shape[1] != size or not 1 <= rows <= min(size, len(projection)):
        raise ArgumentError(
            f"a whitening with P {projection.shape}, of which {rows} rows are kept, does not fit {size} dimensions"
        )
    layer = layers.Whitening(rows, name="whitening", dtype="float32")
    x = layers.L2Normalization(name="l2_whitened", dtype="float32")(layer(model.output))
    layer.set_projection(mean, projection)
    return keras.Model(model.input, x, name=model.name)


REGIONS = ("grid", "proposals")


def rmac(
    levels: int = 3,
    whole_map: bool = True,
    regions: str = "grid",
    proposals: int = 256,
    anchors: Sequence[float] = SCALES,
    regional_whitening: bool = False,
    regional_dim: int | None = None,
    **options: Any,
) -> layers.RMAC:
    """Builds the pooling `rmac` of `keras_retrieval.build`: R-MAC with optional proposals and regional whitening.

    Args:
        levels: number of scales of the grid.
        whole_map: whether the whole map is an additional region.
        regions: "grid", or "proposals" for region proposals, which `keras-retrieval train-proposals` trains.
        proposals: the largest number of proposals.
        anchors: sides of the anchors of proposals, in cells of the map.
        regional_whitening: whether a whitening, initially the identity, and L2 are applied to each region's vector.
        regional_dim: number of dimensions that the regional whitening keeps; None keeps all. A number implies
            `regional_whitening`.
        **options: further arguments of the layer.

    Raises:
        ArgumentError: `regions` is unknown, or an option is out of range.
    """
    if regions not in REGIONS:
        raise ArgumentError(f"regions must be one of {', '.join(REGIONS)}, got {regions!r}")
    if regions == "proposals":
        options["proposals"] = layers.RegionProposals(proposals, anchors, name="proposals", dtype="float32")
    if regional_whitening or regional_dim is not None:
        options["whitening"] = layers.Whitening(regional_dim, name="regional_whitening", dtype="float32")
    return layers.RMAC(levels, whole_map, **options)


def regional_layer(network: keras.Model) -> layers.RegionalPooling:
    """Finds the regional pooling of a network.

    Raises:
        ArgumentError: the network has no regional pooling.
    """
    found = next((layer for layer in network.layers if isinstance(layer, layers.RegionalPooling)), None)
    if found is None:
        raise ArgumentError(
            f"{network.name} does not pool regions: "
            "`keras-retrieval build vgg16_rmac model.keras` makes a network that does"
        )
    return found


def with_regional_whitening(
    network: keras.Model, mean: np.ndarray, projection: np.ndarray, dim: int | None = None
) -> keras.Model:
    """Sets a learned whitening of the regions in a network; an existing one is replaced.

    Args:
        network: a network from `keras_retrieval.build`, with a regional pooling.
        mean: the shift m, (D,).
        projection: the matrix P, (d or more, D).
        dim: the number of rows of P to keep; None keeps all.

    Returns:
        A network that shares all other weights.

    Raises:
        ArgumentError: the network has no regional pooling, the shapes do not match, or the number of dimensions does
            not match the layers that follow.
    """
    whitening = layers.Whitening(len(projection) if dim is None else dim, name="regional_whitening", dtype="float32")
    pooled = _with_pooling(network, whitening=whitening)
    whitening.set_projection(mean, projection)
    return pooled


def with_proposals(network: keras.Model, proposals: layers.RegionProposals) -> keras.Model:
    """Sets region proposals in a network, instead of its grid or its existing proposals.

    Args:
        network: a network from `keras_retrieval.build`, with a regional pooling.
        proposals: the RegionProposals layer to use.

    Returns:
        A network that shares all other weights.

    Raises:
        ArgumentError: the network has no regional pooling.
    """
    return _with_pooling(network, proposals=proposals)


def unwhitened_regions(network: keras.Model) -> Callable[[Any], Regions]:
    """Makes a function from photos (B, H, W, 3) to their regions before the regional whitening.

    Raises:
        ArgumentError: the network has no regional pooling.
    """
    pooling = regional_layer(network)
    trunk, unwhitened = keras.Model(network.input, pooling.input), _replaced(pooling, whitening=None)
    unwhitened.build(pooling.input.shape)
    return lambda images: unwhitened.regions(trunk(images, training=False))


def _replaced(old: layers.RegionalPooling, **parts: keras.layers.Layer | None) -> layers.RegionalPooling:
    """A new layer like the old one, with some parts replaced and the others shared."""
    # A new layer, because Keras keeps tracking a part, with its weights, that is replaced after construction.
    config = old.get_config()
    config |= {name: getattr(old, name) for name in ("pooling", "whitening", "proposals") if name in config}
    return type(old)(**(config | parts))


def _with_pooling(network: keras.Model, **parts: keras.layers.Layer) -> keras.Model:
    """The network with some parts of its regional pooling replaced; all other layers are the same objects."""
    old = regional_layer(network)
    x = _replaced(old, **parts)(old.input)
    for layer in network.layers[network.layers.index(old) + 1 :]:
        if layer.name == "whitening" and x.shape[-1] != layer.input.shape[-1]:
            raise ArgumentError(
                f"{network.name} ends with a whitening of {layer.input.shape[-1]} dimensions, but its regions would "
                f"have {x.shape[-1]}: keep {layer.input.shape[-1]} dimensions"
            )
        x = layer(x)
    return keras.Model(network.input, x, name=network.name)
