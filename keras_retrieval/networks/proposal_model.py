"""Region proposals of a network as a model of their own, for plain `compile` and `fit`."""

from typing import Any

import keras
import numpy as np
from keras import ops

from .padded import PaddedNetwork
from .regional import regional_layer


class ProposalModel(keras.Model):
    """What a network's region proposals say of every anchor, so that `losses.ProposalLoss` can train them.

    Only the proposals learn, and the trunk if it is asked for; BatchNormalization keeps to its stored statistics.
    `release` gives the network back as `build` makes it, with frozen proposals.

    Args:
        network: from `build` with regions="proposals", or `regional.with_proposals`; `fit` changes its weights.
        trunk: whether the trunk learns, too. Descriptors change with it.

    Input shape:
        A dict: "photos" (B, H, W, 3), RGB 0..255, padded at the lower right; "sizes" (B, 2), height and width of each.

    Output shape:
        (B, M, 5): of each of the map's M anchors the logit of its being an object, and how the object's box differs.

    Raises:
        ValueError: the network has no proposals, or cannot take padded photos.

    Example:
        >>> model = ProposalModel(keras_retrieval.build("vgg16_rmac", regions="proposals"))
        >>> model.compile("adam", loss=losses.ProposalLoss())
        >>> model.fit({"photos": photos, "sizes": sizes}, targets)
    """

    def __init__(self, network: keras.Model, trunk: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        self.padded = PaddedNetwork(network)
        pooling = regional_layer(network)
        if pooling.proposals is None:
            raise ValueError(f"{network.name} pools a grid: build it with regions='proposals'")
        self.proposals = pooling.proposals
        for layer in network.layers:
            layer.trainable = layer is pooling or (trunk and isinstance(layer, keras.Model))
        self._others = [part for part in (pooling.pooling, pooling.whitening) if part is not None]
        for part in self._others:
            part.trainable = False
        self.proposals.trainable = True
        self.built = True  # every weight is the network's

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        x, mask = self.padded.maps(inputs)
        logits, deltas = self.proposals.score(x, mask)
        return ops.concatenate([ops.expand_dims(logits, -1), deltas], axis=-1)

    def anchors(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """What `anchor_targets` needs for photos padded to a square of so many pixels.

        Returns:
            The anchors (M, 4) of its map, in cells; and (side + 1,), how many cells a side of so many pixels has.
        """
        cells = self.padded.cells(side)
        return ops.convert_to_numpy(self.proposals.anchors(int(cells[side]), int(cells[side]))), cells

    def release(self) -> keras.Model:
        """The network, all of it trainable but its proposals."""
        # A layer that is trainable already does not pass it on to its parts.
        for layer in (*self.network.layers, *self._others):
            layer.trainable = True
        self.proposals.trainable = False
        return self.network
