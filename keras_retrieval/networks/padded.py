"""Descriptors of a batch of photos of different sizes, which are padded to a common size.

A cell is one position of the feature map.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..errors import ArgumentError
from ..layers.fit_to_patches import FitToPatches
from ..layers.fixed_size import FixedSize
from .padded_layers import PaddedMaps, apply_padded, check_layer, inside
from .vision_transformer import takes_mask


class PaddedNetwork(keras.Model):
    """Applies a network from `build` to photos that are padded to a common size.

    The pixels of the padding are set to 0 after the pixel normalisation, which is also the value that convolutions pad
    with. The pooling uses only the cells that the feature map of the photo would have without padding.

    The descriptor of a photo that fills the array (H, W) is exactly the descriptor that `network` computes. With
    `exact` so are those of smaller photos, to 1e-5, because the padding is set to 0 before each layer that pads its
    input, see `padded_layers`. Without it, the descriptors of smaller photos differ slightly, because in the padding
    the deeper convolutions read the activations of earlier layers (such as a bias) instead of 0, which changes the
    cells near the lower and the right border of the photo. The cosine similarity to the exact descriptor is then 0.99
    on average, over photos of 362 px with AlexNet-GeM and VGG16-GeM. Vision transformers have no such difference: their
    attention leaves out the padding, to 1e-5. In trunks that normalise pixels in their own first layers (the pixel
    normalisation "none") the padding is black pixels.

    This model shares the weights of `network`. Save `network`, not this model.

    Args:
        network: a network from `build`. Its layers must be a chain, in which each layer has one input and one output,
            and one of them must be named "pooling".
        exact: whether descriptors are those of the photos without padding. `misfit` says for which networks they
            cannot be.

    Input shape:
        A dict. "photos" (B, H, W, 3) are RGB in 0..255, each photo in the upper left corner; without `exact` H and W
        must be known when the graph is made. "sizes" (B, 2) are integers, the height and width of each photo in pixels.
        If a photo is too small for one cell, the upper left cell is pooled.

    Output shape:
        (B, D).

    Raises:
        ArgumentError: the layers of the network are not such a chain; H or W is unknown, without `exact`; or with it
            the network's descriptors depend on the padding.

    Example:
        >>> network = PaddedNetwork(keras_retrieval.build("vgg16_gem"))
        >>> network({"photos": np.zeros((2, 64, 64, 3)), "sizes": np.array([[64, 48], [40, 64]])}).shape
        (2, 512)
    """

    def __init__(self, network: keras.Model, exact: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if reason := misfit(network) if exact else _no_chain(network):
            raise ArgumentError(f"{network.name} cannot take padded photos: {reason}")
        self.exact = exact
        names = [layer.name for layer in network.layers]
        pooling = names.index("pooling")
        self.normalization, *self.trunk = network.layers[1:pooling]
        self.pooling, *self.head = network.layers[pooling:]
        for layer in filter(takes_mask, self.trunk):  # type: keras.layers.Layer
            layer.supports_masking = True  # its layers compute the mask of the map
        self.built = True  # all weights belong to the network

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        x, mask = self.maps(inputs)
        x = self.pooling(x, mask=mask)
        for layer in self.head:
            x = layer(x)
        return x

    def maps(self, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """Computes the feature maps of padded photos.

        Args:
            inputs: "photos" and "sizes", as in the input of this model.

        Returns:
            The feature maps (B, h, w, C), and masks (B, h, w) bool, true for the cells that belong to the photo and
            false for cells of the padding.

        Raises:
            ArgumentError: H or W is unknown.
        """
        if self.exact:
            return self._exact_maps(inputs["photos"], ops.cast(inputs["sizes"], "int32"))
        height, width = inputs["photos"].shape[1:3]
        sizes = ops.cast(inputs["sizes"], "int32")
        if height is None or width is None:
            raise ArgumentError("padded photos must have a height and a width that are known when the graph is made")
        x = self.normalization(inputs["photos"])
        mask: Any = inside(sizes, height, width)
        x = ops.where(mask[..., None], x, ops.zeros_like(x))
        for layer in self.trunk:
            x = layer(x, mask=mask) if takes_mask(layer) and mask is not None else layer(x)
            mask = None if isinstance(layer, FixedSize) else mask  # it leaves no padding
        cells = ops.take(self.cells(max(height, width)), sizes, axis=0)
        return x, inside(cells, *ops.shape(x)[1:3])

    def _exact_maps(self, photos: Any, sizes: Any) -> tuple[Any, Any]:
        x = self.normalization(photos)
        maps = PaddedMaps(x, sizes)
        maps = PaddedMaps(ops.where(maps.inside()[..., None], x, ops.zeros_like(x)), sizes, True)
        for layer in self.trunk:
            maps = _resized(layer, maps) if takes_mask(layer) else apply_padded(layer, maps)
        return maps.x, inside(ops.maximum(maps.sizes, 1), *ops.shape(maps.x)[1:3])

    def cells(self, longest: int) -> np.ndarray:
        """Computes the side of the feature map in cells for each side of a photo in pixels.

        Args:
            longest: the longest side of a photo, in pixels.

        Returns:
            The number of cells, at least 1, for sides of 0, 1, .. `longest` pixels, (longest + 1,) int32.
        """
        table = np.zeros(longest + 1, "int32")

        def fill(low: int, high: int, at_low: int, at_high: int) -> None:
            # The number of cells never decreases with the side, so that it is constant between two equal numbers.
            table[low], table[high] = at_low, at_high
            if at_low == at_high:
                table[low:high] = at_low
            elif high - low > 1:
                middle = (low + high) // 2
                between = self._cells(middle)
                fill(low, middle, at_low, between)
                fill(middle, high, between, at_high)

        fill(0, longest, 1, self._cells(longest))
        return table

    def _cells(self, side: int) -> int:
        shape = self.normalization.compute_output_shape((1, side, side, 3))
        try:
            for layer in self.trunk:
                shape = layer.compute_output_shape(shape)
        except ValueError:  # Keras computes no valid output shape: the photo is too small
            return 1
        return max(1, shape[1] or 0)


def misfit(network: keras.Model) -> str:
    """Returns why `PaddedNetwork` cannot compute the exact descriptors of padded photos; "" if it can.

    Args:
        network: a network from `build`.
    """
    if reason := _no_chain(network):
        return reason
    names = [layer.name for layer in network.layers]
    _, *trunk = network.layers[1 : names.index("pooling")]
    if not getattr(network.get_layer("pooling"), "supports_masking", False) and not _ends_in_one_size(trunk):
        return "its pooling takes no mask of the valid cells"
    return next((reason for layer in trunk if not takes_mask(layer) and (reason := check_layer(layer))), "")


def _ends_in_one_size(trunk: list[Any]) -> bool:
    return any(isinstance(layer, FixedSize) for layer in trunk)


def _no_chain(network: keras.Model) -> str:
    names = [layer.name for layer in network.layers]
    return "" if "pooling" in names and _is_chain(network) else "it is not a chain of layers with one named 'pooling'"


def _resized(layer: Any, maps: PaddedMaps) -> PaddedMaps:
    """Applies a layer or a trunk that resizes each photo and takes a mask of pixels."""
    x = layer(maps.x, mask=maps.inside())
    if isinstance(layer, FixedSize):
        full = ops.array([layer.height, layer.width], "int32")
        return PaddedMaps(x, ops.broadcast_to(full, ops.shape(maps.sizes)))
    fit = next(inner for inner in layer.layers if isinstance(inner, FitToPatches))
    return PaddedMaps(x, fit.fitted(maps.sizes) // fit.patch)


def _is_chain(network: keras.Model) -> bool:
    by_depth = list(getattr(network, "_nodes_by_depth", {}).values())
    return bool(by_depth) and all(len(nodes) == 1 and len(nodes[0].parent_nodes) <= 1 for nodes in by_depth)
