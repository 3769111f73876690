"""Photos of several sizes in one array: padded to a square, and pooled over their own cells only."""

from typing import Any

import keras
import numpy as np
from keras import ops


class PaddedNetwork(keras.Model):
    """A network of `build` on padded photos; it shares the network's weights and is not saved itself.

    Padding is 0 where the trunk begins, behind the pixel normalisation, as the convolutions' own padding is; pooling
    sees the cells that a photo's feature map has at its own size, and no others. A photo that fills the square has
    exactly the descriptor of `network`. Any other differs near its two padded borders, where deeper convolutions find
    what the padding has become (a bias, say) and not 0: cosine .99 to the exact descriptor, on average over photos of
    362 px, with AlexNet-GeM and VGG16-GeM. Trunks that normalise pixels in their own first layers ("none") see black
    instead of 0.

    Args:
        network: from `build`; one layer behind the other, a pooling named "pooling" among them.

    Input shape:
        A dict: "photos" (B, H, W, 3), RGB 0..255, each photo at the upper left, H and W known when the graph is made;
        "sizes" (B, 2) integers, height and width of each photo. A photo too small for a cell is pooled over the first.

    Output shape:
        (B, D).

    Raises:
        ValueError: the network is no such chain, or H or W is unknown.
    """

    def __init__(self, network: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        names = [layer.name for layer in network.layers]
        if "pooling" not in names or not _is_chain(network):
            raise ValueError(f"{network.name} cannot take padded photos: it is no chain with a layer 'pooling' in it")
        pooling = names.index("pooling")
        self.normalization, *self.trunk = network.layers[1:pooling]
        self.pooling, *self.behind = network.layers[pooling:]
        self.built = True  # every weight is the network's

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        x, mask = self.maps(inputs)
        x = self.pooling(x, mask=mask)
        for layer in self.behind:
            x = layer(x)
        return x

    def maps(self, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """The feature maps (B, h, w, C) of padded photos, and which cells are a photo's own, (B, h, w)."""
        height, width = inputs["photos"].shape[1:3]
        sizes = ops.cast(inputs["sizes"], "int32")
        if height is None or width is None:
            raise ValueError("padded photos need a height and width that are known when the graph is made")
        x = self.normalization(inputs["photos"])
        x = ops.where(_inside(sizes, height, width)[..., None], x, ops.zeros_like(x))
        for layer in self.trunk:
            x = layer(x)
        cells = ops.take(self.cells(max(height, width)), sizes, axis=0)
        return x, _inside(cells, *ops.shape(x)[1:3])

    def cells(self, longest: int) -> np.ndarray:
        """How many cells the trunk makes of a side of 0 .. longest pixels, at least 1, as (longest + 1,) int32."""
        table = np.zeros(longest + 1, "int32")

        def fill(low: int, high: int, at_low: int, at_high: int) -> None:
            # Cells never get fewer as the side grows: equal ends have equal sides between them.
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
        except ValueError:  # Keras finds no output at all
            return 1
        return max(1, shape[1] or 0)


def _is_chain(network: keras.Model) -> bool:
    by_depth = list(getattr(network, "_nodes_by_depth", {}).values())
    return bool(by_depth) and all(len(nodes) == 1 and len(nodes[0].parent_nodes) <= 1 for nodes in by_depth)


def _inside(sizes: Any, height: int, width: int) -> Any:
    """(B, height, width), true in the upper left corner of sizes (B, 2)."""
    rows, columns = ops.arange(height) < sizes[:, :1], ops.arange(width) < sizes[:, 1:]
    return rows[:, :, None] & columns[:, None, :]
