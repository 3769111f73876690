"""A model that trains a retrieval network with Keras' `compile` and `fit` on training tuples.

A training tuple is a query, a positive and some negatives.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .padded import PaddedNetwork


class TupleModel(keras.Model):
    """Computes the descriptors of all photos of a batch of tuples, for a loss on tuples such as `ContrastiveLoss`.

    A loss with weights of its own (class centres of `CosFaceLoss`, the memory of `CrossBatchMemory`) is trained with
    the network: `compile` adds its weights to this model, as `extra_weights`. In `evaluate` such a loss is replaced by
    its attribute `held_out`, because the photos are of other objects. A memory needs one device.

    As in the published training, BatchNormalization uses its stored statistics while its gamma and beta are trainable,
    and dropout is off. Save the network, not this model.

    Args:
        network: a network from `build`; `fit` changes its weights.
        l2: factor of the penalty l2 / 2 * sum w^2 on the trainable weights w, at least 0. The penalty is added to the
            training loss. Weights of the loss, and those that a layer lists in its attribute `undecayed`, are not
            included: p of GeM, and p and t of the edge filter. The gradient of the penalty is what `weight_decay`
            of torch's Adam adds to the gradient. Keras' own `weight_decay` is different, because it bypasses the
            moments of Adam.
        exact: whether descriptors are those of the photos without padding, to 1e-5, see `PaddedNetwork`.
        kept: a penalty that is added to the training loss, such as `losses.KeptDescriptors`, as a function of the row
            numbers of the photos and of their descriptors; None for none. The inputs must then contain "rows" (B, M).
            It needs one device.

    Input shape:
        A dict for B tuples of M photos. "photos" (B, M, S, S, 3) are RGB in 0..255, each photo in the upper left corner
        of a square with the side S; "sizes" (B, M, 2) are integers, the height and width of each photo in pixels. Other
        keys are ignored. The labels, the second argument of `fit`, are (B, M) integers, the number of the object that
        each photo shows, or what else the loss takes as labels.

    Output shape:
        (B, M, D).

    Raises:
        ArgumentError: `l2` is below 0; or the layers of the network are not a chain or, with `exact`, read the padding,
            see `PaddedNetwork`.

    Example:
        >>> model = TupleModel(keras_retrieval.build("alexnet_gem", p_speed=10))
        >>> model.compile(published_adam(steps_per_epoch=400), loss=losses.ContrastiveLoss(margin=0.7))
        >>> photos, sizes = np.zeros((2, 7, 64, 64, 3)), np.full((2, 7, 2), 64)
        >>> objects = np.array([[0, 0, 1, 2, 3, 4, 5]] * 2)
        >>> history = model.fit({"photos": photos, "sizes": sizes}, objects, batch_size=1, verbose=0)
    """

    def __init__(
        self,
        network: keras.Model,
        l2: float = 1e-6,
        exact: bool = False,
        kept: Callable[[Any, Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if l2 < 0:
            raise ArgumentError(f"l2 must be at least 0, got {l2}")
        self.network = network
        self.padded = PaddedNetwork(network, exact)
        self.l2 = l2
        self.kept = kept
        self.loss_layer: Any = None
        self.built = True  # all weights belong to the network, or to the loss

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        photos, sizes = inputs["photos"], inputs["sizes"]
        flat = {"photos": ops.reshape(photos, (-1, *photos.shape[2:])), "sizes": ops.reshape(sizes, (-1, 2))}
        rows = self.padded(flat, training=False)
        return ops.reshape(rows, (*ops.shape(photos)[:2], self.network.output_shape[-1]))

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **kwargs: Any) -> None:
        """Compiles the model as Keras does, and adds the weights of the loss to those of the model."""
        self.loss_layer = getattr(loss, "layer", None)
        super().compile(optimizer, loss, **kwargs)

    @property
    def extra_weights(self) -> list[Any]:
        """The weights of the compiled loss, which are not part of the network."""
        return [] if self.loss_layer is None else list(self.loss_layer.weights)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        held_out = getattr(getattr(self, "loss", None), "held_out", None)
        if held_out is not None and not training:
            return held_out(y, y_pred, sample_weight)
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        # The penalty is divided by the number of replicas of a distribution strategy, because gradients are summed.
        if not training:
            return loss
        if self.kept is not None:
            loss = loss + self.kept(x["rows"], y_pred)
        return loss + self._aggregate_additional_loss(self.penalty())

    def penalty(self) -> Any:
        """Computes the L2 penalty, a scalar: l2 / 2 * sum w^2 over the trainable weights w that are not `undecayed`."""
        layers = self.network._flatten_layers()
        undecayed = {id(weight) for layer in layers for weight in getattr(layer, "undecayed", ())}
        squares = [
            ops.sum(ops.square(ops.convert_to_tensor(weight)))
            for weight in self.network.trainable_variables
            if id(weight) not in undecayed
        ]
        return self.l2 / 2 * sum(squares, ops.zeros(()))
