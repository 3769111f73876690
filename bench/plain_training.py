"""A plain implementation of the published training scheme: one photo per forward pass, one backward pass per tuple."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_retrieval.losses import ContrastiveLoss
from keras_retrieval.networks.padded import PaddedNetwork

Tuples = list[list[dict[str, np.ndarray]]]  # for each photo of each tuple the network's input, a batch of size 1
Gradients = Callable[[list[dict[str, np.ndarray]]], list[Any]]


def plain_step(network: Any, tuples: Tuples, optimizer: Any, loss: ContrastiveLoss, l2: float) -> Callable[[], None]:
    """Returns a function that performs one training step on all tuples.

    The gradients are computed tuple by tuple and summed, the gradient of the L2 penalty is added, and the optimizer
    updates the weights.

    Args:
        network: the network to train.
        tuples: for each photo of each tuple a dict, either {"images": (1, H, W, 3)} at the exact size, or, padded,
            {"photos": (1, S, S, 3), "sizes": (1, 2)}.
        optimizer: the Keras optimizer; this function builds it for the weights of the network.
        loss: the loss of one tuple.
        l2: factor of the penalty l2 / 2 * sum w^2, which does not include GeM's p.
    """
    on_jax = keras.backend.backend() == "jax"
    padded = "photos" in tuples[0][0]
    model = PaddedNetwork(network) if padded else network
    weights = network.trainable_variables
    decays = [0.0 if weight.path.endswith("/p") else l2 for weight in weights]
    gradients = (_jax_gradients if on_jax else _tensorflow_gradients)(model, loss)
    apply = (_jax_apply if on_jax else _tensorflow_apply)(optimizer, weights, decays)

    def step() -> None:
        sums = gradients(tuples[0])
        for photos in tuples[1:]:
            sums = [total + one for total, one in zip(sums, gradients(photos), strict=True)]
        apply(sums)

    return step


def _tensorflow_gradients(model: Any, loss: ContrastiveLoss) -> Gradients:
    import tensorflow as tf

    @tf.function(autograph=False, reduce_retracing=True)
    def gradients(photos: list[Any]) -> list[Any]:
        with tf.GradientTape() as tape:
            rows = [_describe(model, photo) for photo in photos]
            value = loss(tf.zeros(1), tf.stack(rows, axis=1))
        return tape.gradient(value, [weight.value for weight in model.trainable_variables])

    def of_tuple(photos: list[dict[str, np.ndarray]]) -> list[Any]:
        return gradients([{key: tf.constant(value) for key, value in photo.items()} for photo in photos])

    return of_tuple


def _tensorflow_apply(optimizer: Any, weights: list[Any], decays: list[float]) -> Callable[[list[Any]], None]:
    import tensorflow as tf

    @tf.function(autograph=False)
    def apply(sums: list[Any]) -> None:
        decayed = [total + decay * weight.value for total, decay, weight in zip(sums, decays, weights, strict=True)]
        optimizer.apply(decayed, weights)

    optimizer.build(weights)
    return apply


def _jax_gradients(model: Any, loss: ContrastiveLoss) -> Gradients:
    import jax

    def value(trainable: list[Any], others: list[Any], photos: list[Any]) -> Any:
        with keras.StatelessScope(
            list(zip([*model.trainable_variables, *model.non_trainable_variables], [*trainable, *others], strict=True))
        ):
            rows = [_describe(model, photo) for photo in photos]
            return loss(keras.ops.zeros(1), keras.ops.stack(rows, axis=1))

    gradient = jax.jit(jax.grad(value))
    return lambda photos: gradient(
        [weight.value for weight in model.trainable_variables],
        [weight.value for weight in model.non_trainable_variables],
        photos,
    )


def _jax_apply(optimizer: Any, weights: list[Any], decays: list[float]) -> Callable[[list[Any]], None]:
    import jax

    optimizer.build(weights)

    @jax.jit
    def new_values(state: list[Any], sums: list[Any], values: list[Any]) -> Any:
        decayed = [total + decay * value for total, decay, value in zip(sums, decays, values, strict=True)]
        return optimizer.stateless_apply(state, decayed, values)

    def apply(sums: list[Any]) -> None:
        state, values = [one.value for one in optimizer.variables], [weight.value for weight in weights]
        moved, state = jax.block_until_ready(new_values(state, sums, values))
        for variable, new in zip([*weights, *optimizer.variables], [*moved, *state], strict=True):
            variable.assign(new)

    return apply


def _describe(model: Any, photo: dict[str, Any]) -> Any:
    return model(photo.get("images", photo), training=False)
