"""The optimizer of the published networks (Radenovic et al. TPAMI 2018): Adam with an exponentially decaying rate.

The other parts of the published training are defaults elsewhere: the L2 penalty 1e-6 in `TupleModel`, `p_speed` in
`GeM`, and the margin in `ContrastiveLoss`.
"""

import math

import keras

from ..errors import ArgumentError


def decayed_rate(
    steps_per_epoch: int, learning_rate: float = 1e-6, decay: float = 0.01
) -> keras.optimizers.schedules.ExponentialDecay:
    """Makes the learning-rate schedule learning_rate * exp(-decay * epoch), constant within an epoch.

    Args:
        steps_per_epoch: number of optimizer steps in an epoch.
        learning_rate: rate of the first epoch; published values are 5e-7 to 1e-6.
        decay: decay per epoch; with 0 the rate is constant.

    Raises:
        ArgumentError: `steps_per_epoch` is below 1, or `decay` is below 0.
    """
    if steps_per_epoch < 1:
        raise ArgumentError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
    if not decay >= 0:
        raise ArgumentError(f"decay must be at least 0, got {decay}")
    return keras.optimizers.schedules.ExponentialDecay(
        learning_rate, decay_steps=steps_per_epoch, decay_rate=math.exp(-decay), staircase=True
    )


def published_adam(steps_per_epoch: int, learning_rate: float = 1e-6, decay: float = 0.01) -> keras.optimizers.Adam:
    """Makes Adam with the decayed rate and the epsilon of the published code, 1e-8 instead of Keras' 1e-7.

    Args:
        steps_per_epoch: number of optimizer steps in an epoch.
        learning_rate: rate of the first epoch.
        decay: decay per epoch.

    Raises:
        ArgumentError: `steps_per_epoch` is below 1, or `decay` is below 0.
    """
    return keras.optimizers.Adam(decayed_rate(steps_per_epoch, learning_rate, decay), epsilon=1e-8)
