"""Sets the numerical precision in which a network computes, for mixed-precision training."""

import keras

from ..errors import ArgumentError

_EXACT = (keras.layers.Normalization, keras.layers.Rescaling)


def set_trunk_precision(network: keras.Model, policy: str) -> None:
    """Sets the dtype policy of a network's trunk (backbone), in place.

    The layers before the trunk (pixel normalisation) and after it (pooling, L2 normalisation, whitening) stay float32.
    With the mixed policies the trunk's weights stay float32, too, so that small optimizer steps are not lost, and only
    its activations have 16 bits. Call this function before `compile`. The policy is saved with the network: set
    "float32" again before saving, unless the saved network should compute in 16 bits.

    Args:
        network: a network from `build`.
        policy: a dtype policy of Keras: "mixed_bfloat16", "mixed_float16" or "float32".

    Raises:
        ArgumentError: the network has no trunk, that is no layer that is a keras.Model.
    """
    trunks = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    if not trunks:
        raise ArgumentError(f"{network.name} has no trunk (a model inside the model) to compute in {policy}")
    for layer in (layer for trunk in trunks for layer in trunk.layers):
        if not isinstance(layer, _EXACT):
            layer.dtype_policy = policy
