"""A model that trains the region proposals of a network with `compile` and `fit`."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..errors import ArgumentError
from .padded import PaddedNetwork
from .regional import regional_layer


class ProposalModel(keras.Model):
    """Computes the outputs of a network's region proposals for every anchor, to be trained with `losses.ProposalLoss`.

    Only the proposals are trainable, and optionally the trunk; BatchNormalization uses its stored statistics.
    `release` returns the network as `build` makes it, with frozen proposals.

    Args:
        network: a network from `build` with regions="proposals", or from `regional.with_proposals`; `fit` changes its
            weights.
        trunk: whether the trunk is trainable, too, which changes the descriptors.

    Input shape:
        A dict: "photos" (B, H, W, 3), RGB 0..255, padded at the lower right; "sizes" (B, 2), height and width of each.

    Output shape:
        (B, M, 5): for each of the M anchors the logit of being an object, then the regression outputs of the box.

    Raises:
        ArgumentError: the network has no proposals, or cannot take padded photos.

    Example:
        >>> model = ProposalModel(keras_retrieval.build("vgg16_rmac", regions="proposals"))
        >>> model.compile("adam", loss=losses.ProposalLoss())
        >>> photos, sizes = np.zeros((1, 64, 64, 3)), np.array([[64, 48]])
        >>> anchors, cells = model.anchors(64)
        >>> boxes = np.array([[0.0, 0.0, 2.0, 2.0]])
        >>> targets = anchor_targets(anchors, boxes, (4, 3), np.random.default_rng(0))
        >>> history = model.fit({"photos": photos, "sizes": sizes}, targets[None], verbose=0)
    """

    def __init__(self, network: keras.Model, trunk: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        self.padded = PaddedNetwork(network)
        pooling = regional_layer(network)
        if pooling.proposals is None:
            raise ArgumentError(f"{network.name} pools a grid: build it with regions='proposals'")
        self.proposals = pooling.proposals
        for layer in network.layers:
            layer.trainable = layer is pooling or (trunk and isinstance(layer, keras.Model))
        self._others = [part for part in (pooling.pooling, pooling.whitening) if part is not None]
        for part in self._others:
            part.trainable = False
        self.proposals.trainable = True
        self.built = True  # all weights belong to the network

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        x, mask = self.padded.maps(inputs)
        logits, deltas = self.proposals.score(x, mask)
        return ops.concatenate([ops.expand_dims(logits, -1), deltas], axis=-1)

    def anchors(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Computes the inputs of `anchor_targets` for photos padded to a square.

        Args:
            side: the side of the square, in pixels.

        Returns:
            The anchors (M, 4) of the map, in cells; and the number of cells for each side of 0 .. `side` pixels,
            (side + 1,).
        """
        cells = self.padded.cells(side)
        return ops.convert_to_numpy(self.proposals.anchors(int(cells[side]), int(cells[side]))), cells

    def release(self) -> keras.Model:
        """Returns the network with everything trainable except its proposals."""
        # A layer that is already trainable does not set its parts trainable.
        for layer in (*self.network.layers, *self._others):
            layer.trainable = True
        self.proposals.trainable = False
        return self.network
