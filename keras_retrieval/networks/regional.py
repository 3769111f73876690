"""R-MAC as Deep Image Retrieval has it (Gordo et al. ECCV 2016): regions whitened, and proposed instead of a grid."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from .. import layers
from ..layers.region_proposals import SCALES
from ..layers.regional_pooling import Regions


def whitened(model: Any, mean: np.ndarray, projection: np.ndarray, dim: int | None = None) -> Any:
    """Puts a learned whitening behind a network, where multi-scale descriptors come after they are joined.

    Args:
        model: a keras.Model without a layer "whitening".
        mean: m, (D,).
        projection: P, (d, D).
        dim: the number of rows of P to keep; None keeps all.

    Returns:
        A keras.Model that shares the weights, with "whitening" and "l2_whitened" at its end.

    Raises:
        ValueError: the network has one already, or the shapes do not fit.
    """
    import keras

    from .. import layers

    if any(layer.name == "whitening" for layer in model.layers):
        raise ValueError("the network ends with a whitening already")
    size, rows = model.output_shape[-1], len(projection) if dim is None else dim
    if projection.shape[1] != size or not 1 <= rows <= min(size, len(projection)):
        raise ValueError(
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
    """The pooling `rmac` of `keras_retrieval.build`.

    Args:
        levels: scales of the grid.
        whole_map: the whole map is a region, too.
        regions: "grid", or "proposals" of a network that `keras-retrieval train-proposals` teaches where objects are.
        proposals: their number.
        anchors: the sides of the boxes that proposals start from, in cells of the map.
        regional_whitening: shift and projection of each region's vector, L2 after it; it starts as the identity.
        regional_dim: the dimensions that it keeps; None keeps all. Asks for a regional whitening by itself.
        **options: of the layer.

    Raises:
        ValueError: `regions` is not known, or an option is out of range.
    """
    if regions not in REGIONS:
        raise ValueError(f"regions={regions!r}: known are {', '.join(REGIONS)}")
    if regions == "proposals":
        options["proposals"] = layers.RegionProposals(proposals, anchors, name="proposals", dtype="float32")
    if regional_whitening or regional_dim is not None:
        options["whitening"] = layers.Whitening(regional_dim, name="regional_whitening", dtype="float32")
    return layers.RMAC(levels, whole_map, **options)


def regional_layer(network: keras.Model) -> layers.RegionalPooling:
    """The pooling of regions in a network.

    Raises:
        ValueError: it has none.
    """
    found = next((layer for layer in network.layers if isinstance(layer, layers.RegionalPooling)), None)
    if found is None:
        raise ValueError(f"{network.name} pools no regions: `keras-retrieval build vgg16_rmac model.keras` makes one")
    return found


def with_regional_whitening(
    network: keras.Model, mean: np.ndarray, projection: np.ndarray, dim: int | None = None
) -> keras.Model:
    """Puts a learned whitening of the regions into a network, in place of the one that it has, if it has any.

    Args:
        network: from `keras_retrieval.build`, with regions.
        mean: m, (D,).
        projection: P, (d or more, D).
        dim: the number of rows of P to keep; None keeps all.

    Returns:
        A network that shares all other weights.

    Raises:
        ValueError: it has no regions, the shapes do not fit, or another number of dimensions does not fit what follows.
    """
    whitening = layers.Whitening(len(projection) if dim is None else dim, name="regional_whitening", dtype="float32")
    pooled = _with_pooling(network, whitening=whitening)
    whitening.set_projection(mean, projection)
    return pooled


def with_proposals(network: keras.Model, proposals: layers.RegionProposals) -> keras.Model:
    """Puts region proposals into a network, in place of the grid or of the proposals that it has.

    Args:
        network: from `keras_retrieval.build`, with regions.
        proposals: a new layer.

    Returns:
        A network that shares all other weights.

    Raises:
        ValueError: it has no regions.
    """
    return _with_pooling(network, proposals=proposals)


def bare_regions(network: keras.Model) -> Callable[[Any], Regions]:
    """A function from photos (B, H, W, 3) to their regions as they are before their whitening.

    Raises:
        ValueError: it has no regions.
    """
    pooling = regional_layer(network)
    trunk, bare = keras.Model(network.input, pooling.input), _changed(pooling, whitening=None)
    bare.build(pooling.input.shape)
    return lambda images: bare.regions(trunk(images, training=False))


def _changed(old: layers.RegionalPooling, **parts: keras.layers.Layer | None) -> layers.RegionalPooling:
    """A new layer like the old one, with some of its parts replaced and the others shared."""
    # Parts are handed over when it is made: Keras keeps track of those that are replaced later, weights and all.
    config = old.get_config()
    config |= {name: getattr(old, name) for name in ("pooling", "whitening", "proposals") if name in config}
    return type(old)(**(config | parts))


def _with_pooling(network: keras.Model, **parts: keras.layers.Layer) -> keras.Model:
    """The network with some parts of its regional pooling replaced; every other layer is the same object."""
    old = regional_layer(network)
    x = _changed(old, **parts)(old.input)
    for layer in network.layers[network.layers.index(old) + 1 :]:
        if layer.name == "whitening" and x.shape[-1] != layer.input.shape[-1]:
            raise ValueError(
                f"{network.name} ends with a whitening of {layer.input.shape[-1]} dimensions, and its regions would "
                f"have {x.shape[-1]}: keep as many"
            )
        x = layer(x)
    return keras.Model(network.input, x, name=network.name)
