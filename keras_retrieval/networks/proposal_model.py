"""A model that trains the region proposals of a network with Keras' `compile` and `fit`."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..errors import ArgumentError
from .padded import PaddedNetwork
from .regional import regional_layer


class ProposalModel(keras.Model):
    """Computes the outputs of a network's region proposal layer for every anchor, for training with `ProposalLoss`.

    Making this model freezes all layers of the network except the region proposal layer and optionally the trunk, and
    `fit` changes the weights of the network. BatchNormalization uses its stored statistics. After training, `release`
    returns the network.

    Args:
        network: a network from `build` with regions="proposals", or from `regional.with_proposals`.
        trunk: whether the trunk (backbone) is trained, too, which changes the descriptors.

    Input shape:
        A dict. "photos" (B, H, W, 3) are RGB in 0..255, each photo in the upper left corner and padded to H x W;
        "sizes" (B, 2) are integers, the height and width of each photo in pixels.

    Output shape:
        (B, M, 5). For each of the M anchors, column 0 is the logit that the anchor is an object, and columns 1 to 4 are
        the regression outputs of its box, see `layers.anchors.encode`.

    Raises:
        ArgumentError: the network has no region proposals, or its layers are not a chain, see `PaddedNetwork`.

    Example:
        >>> model = ProposalModel(keras_retrieval.build("alexnet_rmac", regions="proposals"))
        >>> model.compile("adam", loss=losses.ProposalLoss())
        >>> photos, sizes = np.zeros((1, 64, 64, 3)), np.array([[64, 48]])
        >>> anchors, cells = model.anchors(64)
        >>> boxes = np.array([[0.0, 0.0, 2.0, 2.0]])
        >>> targets = anchor_targets(anchors, boxes, tuple(cells[sizes[0]]), np.random.default_rng(0))
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
        """Computes the anchors for photos that are padded to a square, for `anchor_targets`.

        Args:
            side: the side of the square, in pixels.

        Returns:
            The anchors (M, 4) float32 of the feature map of the square, as left, top, right, bottom in cells; and the
            number of cells along a side of 0, 1, .. `side` pixels, (side + 1,) int32, which converts the sizes of
            photos to cells.
        """
        cells = self.padded.cells(side)
        return ops.convert_to_numpy(self.proposals.anchors(int(cells[side]), int(cells[side]))), cells

    def release(self) -> keras.Model:
        """Returns the network, with all layers trainable again except its region proposals, which are frozen."""
        # Setting a layer trainable has no effect on its sub-layers if the layer is trainable already.
        for layer in (*self.network.layers, *self._others):
            layer.trainable = True
        self.proposals.trainable = False
        return self.network
