"""The precision that a network computes in."""

import keras

_EXACT = (keras.layers.Normalization, keras.layers.Rescaling)


def set_trunk_precision(network: keras.Model, policy: str) -> None:
    """Lets the trunk compute in another precision; pixel statistics before it and pooling behind it stay float32.

    Weights stay float32 too, so that small steps of an optimizer are not lost. It changes the network that is given,
    and what is saved of it: call it before `compile`, and back to "float32" before the network is stored.

    Args:
        network: from `build`.
        policy: of Keras: "mixed_bfloat16", "mixed_float16" or "float32".

    Raises:
        ValueError: the network has no trunk.
    """
    trunks = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    if not trunks:
        raise ValueError(f"{network.name} has no trunk, a network in the network, to run in {policy}")
    for layer in (layer for trunk in trunks for layer in trunk.layers):
        if not isinstance(layer, _EXACT):
            layer.dtype_policy = policy
