"""Changes to existing networks: a learned whitening or adaptation at the end, whitening of regions, and proposals.

The functions `with_...` return a new network, which shares all other layers with the given network. The whitening of
regions and the region proposals are those of Deep Image Retrieval (Gordo et al. ECCV 2016).
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
    """Appends a learned whitening, P (x - m) for a descriptor x, and L2 normalisation to a network.

    `multi_scale` applies the whitening after the scales are combined.

    Args:
        model: a network with D-dimensional descriptors and without a layer named "whitening".
        mean: the shift m, (D,).
        projection: the matrix P, (d, D), whose rows are in order of decreasing variance.
        dim: the number of dimensions of the new descriptors: only the first `dim` rows of P are used. None uses all d.

    Returns:
        A new network that shares the layers of `model` and ends with the layers "whitening" and "l2_whitened".

    Raises:
        ArgumentError: the network already has a layer named "whitening", the shapes do not match, or `dim` is below 1
            or above d or D.
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


def with_adaptation(model: keras.Model, projection: np.ndarray, dim: int | None = None) -> keras.Model:
    """Appends a linear adaptation P x of descriptors x, without a shift, and L2 normalisation to a network.

    If the network ends with a whitening and L2 normalisation, they are merged with the adaptation: both are linear but
    for the normalisation between them, which only changes the length of P x.

    Args:
        model: a network with D-dimensional descriptors.
        projection: the matrix P, (d, D), whose rows are in order of decreasing variance.
        dim: the number of dimensions of the new descriptors: only the first `dim` rows of P are used. None uses all d.

    Returns:
        A new network that shares the layers of `model` and ends with the layers "whitening" and "l2_whitened".

    Raises:
        ArgumentError: the network has a layer named "whitening" that is not followed by L2 normalisation alone, the
            shapes do not match, or `dim` is below 1 or above d or D.
    """
    names = [layer.name for layer in model.layers]
    if "whitening" not in names:
        return with_whitening(model, np.zeros(model.output_shape[-1]), projection, dim)
    old, *after = model.layers[names.index("whitening") :]
    if not isinstance(old, layers.Whitening) or [type(layer) for layer in after] != [layers.L2Normalization]:
        raise ArgumentError(f"{model.name} has layers after its whitening, so that no adaptation can be merged with it")
    size, rows = model.output_shape[-1], projection[:dim]
    if projection.shape[1] != size or not 1 <= (len(projection) if dim is None else dim) <= min(size, len(projection)):
        raise ArgumentError(f"an adaptation with P {projection.shape} and dim {dim} does not fit {size} dimensions")
    layer = layers.Whitening(len(rows), name="whitening", dtype="float32")
    x = layers.L2Normalization(name="l2_whitened", dtype="float32")(layer(old.input))
    kernel, bias = (np.asarray(weights, "float64") for weights in old.get_weights())
    layer.set_weights([kernel @ rows.T, bias @ rows.T])
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
    """Builds the pooling layer "rmac" of `keras_retrieval.build`: R-MAC with optional proposals and regional whitening.

    Args:
        levels: number of scales of R-MAC's grid of regions.
        whole_map: whether the whole feature map is an additional region.
        regions: "grid" for R-MAC's grid, or "proposals" for the regions of a `layers.RegionProposals`. The weights of
            this layer are random at first; the command `keras-retrieval train-proposals` trains them.
        proposals: the maximum number of region proposals per photo; ignored for the grid.
        anchors: the scales of the anchors of region proposals, in cells of the feature map, see
            `layers.RegionProposals`; ignored for the grid.
        regional_whitening: whether a `layers.Whitening`, initially the identity, and L2 normalisation are applied to
            the vector of each region.
        regional_dim: number of dimensions that the regional whitening keeps; None keeps all. A number implies
            `regional_whitening`.
        **options: further arguments of `layers.RMAC`, such as `name`.

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
    """Returns the first layer of a network that is a `layers.RegionalPooling`, such as R-MAC.

    Raises:
        ArgumentError: the network has no such layer.
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
    """Makes a network in which the vector x of each region is whitened, P (x - m), before the vectors are summed.

    A regional whitening that the network already has is replaced.

    Args:
        network: a network from `keras_retrieval.build` with a `layers.RegionalPooling`, such as R-MAC, whose regions
            have D-dimensional vectors.
        mean: the shift m, (D,).
        projection: the matrix P, (d, D), whose rows are in order of decreasing variance.
        dim: the number of dimensions of the whitened vectors: only the first `dim` rows of P are used. None uses all d.

    Returns:
        A new network that shares all other layers of `network`.

    Raises:
        ArgumentError: the network has no regional pooling, the shapes do not match, `dim` is out of range, or the
            network ends with a whitening that needs vectors with another number of dimensions.
    """
    whitening = layers.Whitening(len(projection) if dim is None else dim, name="regional_whitening", dtype="float32")
    pooled = _with_pooling(network, whitening=whitening)
    whitening.set_projection(mean, projection)
    return pooled


def with_proposals(network: keras.Model, proposals: layers.RegionProposals) -> keras.Model:
    """Makes a network that pools the proposals of a given layer instead of R-MAC's grid or other proposals.

    Args:
        network: a network from `keras_retrieval.build` with a `layers.RegionalPooling`, such as R-MAC.
        proposals: the layer that proposes the regions.

    Returns:
        A new network that shares all other layers of `network`.

    Raises:
        ArgumentError: the network has no regional pooling.
    """
    return _with_pooling(network, proposals=proposals)


def unwhitened_regions(network: keras.Model) -> Callable[[Any], Regions]:
    """Makes a function that computes the regions of photos without the network's regional whitening.

    Args:
        network: a network from `keras_retrieval.build` with a `layers.RegionalPooling`, such as R-MAC.

    Returns:
        A function from photos (B, H, W, 3), RGB in 0..255, to `layers.regional_pooling.Regions`, which contains the
        L2-normalised vectors and the boxes of the regions.

    Raises:
        ArgumentError: the network has no regional pooling.
    """
    pooling = regional_layer(network)
    trunk, unwhitened = keras.Model(network.input, pooling.input), _replaced(pooling, whitening=None)
    unwhitened.build(pooling.input.shape)
    return lambda images: unwhitened.regions(trunk(images, training=False))


def _replaced(old: layers.RegionalPooling, **parts: keras.layers.Layer | None) -> layers.RegionalPooling:
    """Returns a copy of a layer in which some sub-layers are replaced and all others are the same objects.

    Args:
        old: the layer to copy.
        **parts: the new sub-layers by name, "pooling", "whitening" or "proposals"; None removes the sub-layer.
    """
    # A copy, because Keras would continue to track the weights of a sub-layer that is replaced in the old layer.
    config = old.get_config()
    config |= {name: getattr(old, name) for name in ("pooling", "whitening", "proposals") if name in config}
    return type(old)(**(config | parts))


def _with_pooling(network: keras.Model, **parts: keras.layers.Layer) -> keras.Model:
    """Returns a network with some sub-layers of its regional pooling replaced; other layers are the same objects."""
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
