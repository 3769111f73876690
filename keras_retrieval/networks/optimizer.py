"""The optimizer of the published networks (Radenovic et al. TPAMI 2018): Adam with an exponentially decaying rate.

Other settings of the published training are arguments of `TupleModel` (the factor 1e-6 of the L2 penalty, its default),
`GeM` (`p_speed`) and `ContrastiveLoss` (the margin).
"""

import math

import keras

from ..errors import ArgumentError


def decayed_rate(
    steps_per_epoch: int, learning_rate: float = 1e-6, decay: float = 0.01
) -> keras.optimizers.schedules.ExponentialDecay:
    """Makes the learning-rate schedule learning_rate * exp(-decay * epoch), which is constant within an epoch.

    Args:
        steps_per_epoch: number of optimizer steps in an epoch, at least 1.
        learning_rate: learning rate of the first epoch (epoch 0); published values are 5e-7 to 1e-6.
        decay: exponent of the decay per epoch, at least 0; with 0 the learning rate is constant.

    Returns:
        The schedule, for the argument `learning_rate` of a Keras optimizer.

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
    """Makes the Adam optimizer of the published code, with the learning-rate schedule of `decayed_rate`.

    Its epsilon is 1e-8, as in the published code; Keras' default is 1e-7.

    Args:
        steps_per_epoch: number of optimizer steps in an epoch, at least 1.
        learning_rate: learning rate of the first epoch.
        decay: exponent of the decay of the learning rate per epoch, at least 0.

    Raises:
        ArgumentError: `steps_per_epoch` is below 1, or `decay` is below 0.
    """
    return keras.optimizers.Adam(decayed_rate(steps_per_epoch, learning_rate, decay), epsilon=1e-8)
