"""The precision in which a network computes."""

import keras

from ..errors import ArgumentError

_EXACT = (keras.layers.Normalization, keras.layers.Rescaling)


def set_trunk_precision(network: keras.Model, policy: str) -> None:
    """Sets the dtype policy of the trunk; the pixel normalisation before it and the pooling after it stay float32.

    The weights stay float32 under the mixed policies, so that small optimizer steps are not lost. The network is
    changed in place, including what is saved: call this before `compile`, and restore "float32" before saving.

    Args:
        network: a network from `build`.
        policy: a dtype policy of Keras: "mixed_bfloat16", "mixed_float16" or "float32".

    Raises:
        ArgumentError: the network has no trunk.
    """
    trunks = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    if not trunks:
        raise ArgumentError(f"{network.name} has no trunk (a model inside the model) to compute in {policy}")
    for layer in (layer for trunk in trunks for layer in trunk.layers):
        if not isinstance(layer, _EXACT):
            layer.dtype_policy = policy
