"""How the published networks were trained (Radenovic et al. TPAMI 2018), as Keras optimizers know it.

The rest of the recipe stands where it acts: the L2 penalty 1e-6 in `TupleModel`, the speed of GeM's p in `GeM`, the
margin in `ContrastiveLoss`.
"""

import math

import keras


def decayed_rate(
    steps_per_epoch: int, learning_rate: float = 1e-6, decay: float = 0.01
) -> keras.optimizers.schedules.ExponentialDecay:
    """The learning rate of an epoch, learning_rate * exp(-decay * epoch), the same in all its steps.

    Args:
        steps_per_epoch: optimizer steps in an epoch.
        learning_rate: of the first epoch; published: 5e-7 to 1e-6.
        decay: per epoch; 0 keeps the rate as it is.

    Raises:
        ValueError: an epoch without steps, or a negative decay.
    """
    if steps_per_epoch < 1 or decay < 0:
        raise ValueError(f"a rate needs steps_per_epoch >= 1 and decay >= 0, not {steps_per_epoch} and {decay}")
    return keras.optimizers.schedules.ExponentialDecay(
        learning_rate, decay_steps=steps_per_epoch, decay_rate=math.exp(-decay), staircase=True
    )


def published_adam(steps_per_epoch: int, learning_rate: float = 1e-6, decay: float = 0.01) -> keras.optimizers.Adam:
    """Adam with the decayed rate and the epsilon of the published code, 1e-8 where Keras has 1e-7.

    Args:
        steps_per_epoch: see `decayed_rate`, as the other arguments.
        learning_rate: of the first epoch.
        decay: per epoch.
    """
    return keras.optimizers.Adam(decayed_rate(steps_per_epoch, learning_rate, decay), epsilon=1e-8)
