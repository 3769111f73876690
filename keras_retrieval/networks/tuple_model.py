"""A retrieval network as a model of tuples (q, p, n1 .. nN), for plain `compile` and `fit`."""

from typing import Any

import keras
from keras import ops

from .padded import PaddedNetwork


class TupleModel(keras.Model):
    """Describes every photo of every tuple with one network, so that a loss on tuples can train it.

    BatchNormalization keeps to its stored statistics while its gamma and beta learn, as in the published training, and
    dropout is off. What is saved is the network; this model is only there while it is trained.

    Args:
        network: from `build`; `fit` changes its weights.
        l2: the penalty l2 / 2 * sum w^2 is added to the training loss over all trainable weights but those that their
            layer calls `undecayed`: GeM's p, the edge filter's p and t. Its gradient is what `weight_decay` of torch's
            Adam adds (Adam's own `weight_decay` in Keras does not pass through the moments).

    Input shape:
        A dict: "photos" (B, M, S, S, 3), RGB 0..255, padded at the lower right; "sizes" (B, M, 2), height and width
        of each photo. Other keys are ignored. The label of a tuple is (B, M): each photo's object.

    Output shape:
        (B, M, D).

    Raises:
        ValueError: l2 is negative, or the network cannot take padded photos.

    Example:
        >>> model = TupleModel(keras_retrieval.build("vgg16_gem", p_speed=10))
        >>> model.compile(published_adam(steps_per_epoch=400), loss=losses.ContrastiveLoss(margin=0.75))
        >>> model.fit({"photos": photos, "sizes": sizes}, objects, batch_size=5)
    """

    def __init__(self, network: keras.Model, l2: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if l2 < 0:
            raise ValueError(f"the L2 penalty is 0 or more, not l2={l2}")
        self.network = network
        self.padded = PaddedNetwork(network)
        self.l2 = l2
        self.built = True  # every weight is the network's

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        photos, sizes = inputs["photos"], inputs["sizes"]
        flat = {"photos": ops.reshape(photos, (-1, *photos.shape[2:])), "sizes": ops.reshape(sizes, (-1, 2))}
        rows = self.padded(flat, training=False)
        return ops.reshape(rows, (*ops.shape(photos)[:2], self.network.output_shape[-1]))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        # Shared out among the replicas of a strategy, where gradients are summed.
        return loss + self._aggregate_additional_loss(self.penalty()) if training else loss

    def penalty(self) -> Any:
        """l2 / 2 * sum w^2 over the trainable weights but those that their layer calls `undecayed`."""
        layers = self.network._flatten_layers()
        undecayed = {id(weight) for layer in layers for weight in getattr(layer, "undecayed", ())}
        squares = [
            ops.sum(ops.square(ops.convert_to_tensor(weight)))
            for weight in self.trainable_variables
            if id(weight) not in undecayed
        ]
        return self.l2 / 2 * sum(squares, ops.zeros(()))
